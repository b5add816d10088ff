"""Progress: one line of numbers, now and then on a file, redrawn on a terminal."""

from __future__ import annotations

import io
from itertools import count

import anyio
import pytest

from promptmill._run import Progress
from promptmill.cli import progress
from promptmill.clock import VirtualClock


def now(**more: object) -> Progress:
    fields = {"total": 10, "succeeded": 0, "failed": 0, "in_flight": 0, "retrying": 0, "elapsed": 0.0, "tokens": 0}
    return Progress(**(fields | more))  # type: ignore[arg-type]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("state", "line"),
    [
        (now(), "done 0/10  failed 0  in flight 0  0.0/s"),
        (
            now(total=None, succeeded=1234, failed=2, in_flight=64, elapsed=10.0),
            "done 1,236  failed 2  in flight 64  123.6/s",
        ),
        (
            now(total=3000, succeeded=999, failed=1, in_flight=5, retrying=7, elapsed=100.0, tokens=1_500_000),
            "done 1,000/3,000  failed 1  retrying 7  in flight 5  10.0/s  ETA 3 min 20 s  1,500,000 tokens",
        ),
        (now(total=2, succeeded=3, elapsed=1.0), "done 3/2  failed 0  in flight 0  3.0/s  ETA 0 ms"),
    ],
)
def test_the_line(state: Progress, line: str) -> None:
    assert progress.line_of(state) == line


@pytest.mark.parametrize(
    ("environment", "live"),
    [({}, True), ({"TERM": "xterm"}, True), ({"TERM": "dumb"}, False), ({"CI": "true"}, False), ({"CI": ""}, True)],
)
def test_a_terminal_is_live_unless_it_cannot_be(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], live: bool
) -> None:
    for name in ("TERM", "CI"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stderr", Terminal())
    assert progress.is_live() is live
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert progress.is_live() is False
    monkeypatch.setattr("sys.stderr", None)
    assert progress.is_live() is False


def shown_in(seconds: float) -> VirtualClock:
    """Show progress for some virtual seconds."""
    clock = VirtualClock()
    states = count(1)

    async def main() -> None:
        with anyio.move_on_after(seconds):
            await progress.show(lambda: now(succeeded=next(states)))

    clock.run(main)
    return clock


def test_a_file_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr("sys.stderr", stderr)
    shown_in(3.5 * progress.LINE_SECONDS)
    lines = stderr.getvalue().split("\n")
    assert [line[:9] for line in lines] == ["done 1/10", "done 2/10", "done 3/10", ""]
    assert "\x1b" not in stderr.getvalue()


def test_a_terminal_is_redrawn_and_left_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = Terminal()
    monkeypatch.setattr("sys.stderr", stderr)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("CI", raising=False)
    shown_in(10.5 * progress.REDRAW_SECONDS)
    text = stderr.getvalue()
    assert "done 11/10" in text
    # The cursor is shown again and the line erased.
    assert text.rindex("\x1b[?25h") > text.rindex("done ")
    assert "\x1b[2K" in text[text.rindex("done ") :]
