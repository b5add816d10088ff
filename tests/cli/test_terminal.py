"""Text for terminals: nothing foreign moves a cursor or reorders text, and no terminal is too poor."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptmill.cli import terminal

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=40)
BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
ORDINARY = st.characters(exclude_categories=("Cc", "Cs"), exclude_characters=BIDI)


class Narrow(io.TextIOWrapper):
    """A terminal of an encoding that refuses what it cannot show."""

    def __init__(self, encoding: str) -> None:
        self.bytes = io.BytesIO()
        super().__init__(self.bytes, encoding=encoding, errors="strict", newline="\n")


class TestSafe:
    @given(ANY_TEXT)
    def test_leaves_no_control_and_no_bidi_character(self, text: str) -> None:
        shown = terminal.safe(text)
        assert not set(shown) & set(BIDI)
        assert {char for char in shown if unicodedata.category(char) == "Cc"} <= {"\t", "\n"}

    @given(st.text(ORDINARY | st.sampled_from("\t\n"), max_size=60))
    def test_leaves_ordinary_text_as_it_is(self, text: str) -> None:
        assert terminal.safe(text) == text

    @pytest.mark.parametrize(
        "text", ["日本語", "e\u0301", "👩\u200d👩\u200d👧", "🏳\ufe0f", "हिन्दी", "שלום", "a\u00a0b", "[red]x[/red]"]
    )
    def test_leaves_what_people_write(self, text: str) -> None:
        assert terminal.safe(text) == text

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("\x1b[31mred", "\\x1b[31mred"),
            ("\x1b]52;c;aGk=\x07", "\\x1b]52;c;aGk=\\x07"),
            ("\x9b2J", "\\x9b2J"),
            ("a\rb", "a\\x0db"),
            ("a\x00b\x7f", "a\\x00b\\x7f"),
            ("a\u202eb\u2066c", "a\\u202eb\\u2066c"),
            ("a\tb\nc", "a\tb\nc"),
        ],
    )
    def test_shows_what_was_there(self, text: str, shown: str) -> None:
        assert terminal.safe(text) == shown

    @given(ANY_TEXT)
    def test_twice_is_once(self, text: str) -> None:
        assert terminal.safe(terminal.safe(text)) == terminal.safe(text)


class TestTell:
    @given(ANY_TEXT, st.sampled_from(["ascii", "latin-1", "cp1252", "utf-8", "utf-16"]))
    def test_any_text_on_any_terminal_is_one_write_and_no_error(self, text: str, encoding: str) -> None:
        stream = Narrow(encoding)
        terminal.tell(text, stream=stream)
        shown = stream.bytes.getvalue().decode(encoding)
        assert shown.endswith("\n")
        assert "\x1b" not in shown

    def test_replaces_what_the_terminal_cannot_show(self) -> None:
        stream = Narrow("ascii")
        terminal.tell("naïve 日本", stream=stream)
        assert stream.bytes.getvalue() == b"na?ve ??\n"

    def test_a_closed_stream_is_no_error(self) -> None:
        stream = io.StringIO()
        stream.close()
        terminal.tell("x", stream=stream)
        assert stream.closed

    def test_goes_to_stderr(self, capsys: pytest.CaptureFixture[str]) -> None:
        terminal.tell("hello")
        terminal.tell()
        captured = capsys.readouterr()
        assert (captured.out, captured.err) == ("", "hello\n\n")


TELL = "from promptmill.cli.terminal import tell, emit\ntell('na\\u00efve \\u65e5')\nemit('d\\u00e4ta')\n"


def run(code: str, *, redirect: str = "", **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run Python code in a process of its own, under a shell when its streams are to be redirected."""
    command = [sys.executable, "-c", code]
    if redirect:
        command = ["sh", "-c", f'exec "$@" {redirect}', "sh", *command]
    return subprocess.run(command, capture_output=True, check=False, timeout=30, env={**os.environ, **environment})


def test_an_ascii_terminal_gets_question_marks_and_data_stays_utf8() -> None:
    done = run(TELL, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 0
    assert done.stderr.replace(b"\r", b"") == b"na?ve ?\n"
    assert done.stdout.replace(b"\r", b"") == "däta\n".encode()


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
class TestRedirected:
    def test_a_closed_stderr_loses_nothing(self) -> None:
        done = run(TELL, redirect="2>&-", PYTHONUTF8="1")
        assert (done.returncode, done.stdout) == (0, "däta\n".encode())

    def test_a_closed_stdout_is_no_error(self) -> None:
        done = run(TELL, redirect=">&-", PYTHONUTF8="1")
        assert (done.returncode, done.stderr.decode()) == (0, "naïve 日\n")

    def test_a_reader_that_has_gone_is_no_error(self) -> None:
        code = "from promptmill.cli.terminal import emit\nfor _ in range(5000):\n    emit('x' * 100)\n"
        done = run(code, redirect="| head -c 10")
        assert (done.returncode, done.stdout, done.stderr) == (0, b"x" * 10, b"")

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a full device")  # noqa: PTH110
    def test_a_full_stderr_loses_nothing(self) -> None:
        done = run(TELL, redirect="2>/dev/full", PYTHONUTF8="1")
        assert done.stdout == "däta\n".encode()

    def test_progress_does_not_mind_a_closed_stderr(self) -> None:
        done = run("from promptmill.cli.progress import is_live\nprint(is_live())\n", redirect="2>&-")
        assert (done.returncode, done.stdout) == (0, b"False\n")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 ms"),
        (0.0004, "0 ms"),
        (0.42, "420 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.0 s"),
        (1, "1.0 s"),
        (12.34, "12.3 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (60, "1 min 00 s"),
        (245, "4 min 05 s"),
        (3599.6, "1 h 00 min"),
        (7620, "2 h 07 min"),
        (90_000, "25 h 00 min"),
    ],
)
def test_durations_read_as_people_say_them(seconds: float, shown: str) -> None:
    assert terminal.duration(seconds) == shown


@pytest.mark.parametrize(
    ("usd", "shown"),
    [
        (0.0, "$0.00"),
        (0.000173, "$0.00017"),
        (0.0999, "$0.100"),
        (0.5, "$0.50"),
        (1.0, "$1.00"),
        (12345.678, "$12,345.68"),
    ],
)
def test_dollars(usd: float, shown: str) -> None:
    assert terminal.dollars(usd) == shown
