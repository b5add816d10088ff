"""Terminals and pipes of every kind: gone, narrow, dumb, in another locale, and under attack by what models say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

posix = pytest.mark.skipif(sys.platform == "win32", reason="descriptors and terminals of POSIX systems")

HOSTILE = "\x1b[31mred\x1b]52;c;aGVsbG8=\x07 [bold red]rich[/foo] \u202egnp.exe\u2066 \x9b2J \x00 tail"
"""Colours, the clipboard (OSC 52), rich's markup with a tag nobody opened, reordering, a C1 control, NUL."""


def in_terminal(desk: Any, *arguments: str, columns: int = 80, **env: str) -> tuple[int, bytes]:
    """Run with stderr on a pseudo-terminal and stdout beside it; gives the exit code and what the screen got."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = desk.start(*arguments, stdin=theirs, stdout=theirs, stderr=theirs, env={"TERM": "xterm-256color", **env})
    os.close(theirs)
    screen = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # Linux says so when the other end is closed
            break
        if not piece:
            break
        screen += piece
    os.close(ours)
    return process.wait(20), screen


@posix
def test_the_reader_of_stdout_has_gone(desk: Any) -> None:
    desk.prompts(3)
    desk.write()
    ours, theirs = os.pipe()
    os.close(ours)
    done = desk.run("run", "job.yaml", "--json", stdout=theirs)
    os.close(theirs)
    assert done.code == 0, done.err
    assert "Traceback" not in done.err
    assert "BrokenPipe" not in done.err
    assert len(desk.records()) == 3


@posix
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_standard_streams_that_are_closed(desk: Any, closed: str) -> None:
    desk.prompts(3)
    desk.write()
    script = f'"$@" {closed}'
    command = ["/bin/sh", "-c", script, "sh", *desk.program, "run", "job.yaml", "--json"]
    done = subprocess.run(command, cwd=desk.root, env=desk.env, capture_output=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert len(desk.records()) == 3
    if "2>" in closed:
        assert done.stderr == b""


@posix
@pytest.mark.parametrize("command", ["plugins", "schema", "--help", "check job.yaml --json"])
def test_other_commands_bear_a_closed_pipe_too(desk: Any, command: str) -> None:
    desk.prompts(1)
    desk.write()
    ours, theirs = os.pipe()
    os.close(ours)
    done = desk.run(*command.split(), stdout=theirs)
    os.close(theirs)
    assert "Traceback" not in done.err
    assert "Exception ignored" not in done.err


WORLDS: dict[str, dict[str, str]] = {
    "the C locale": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "ASCII": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"},
    "a dumb terminal": {"TERM": "dumb"},
    "no colour": {"NO_COLOR": "1", "TERM": "xterm-256color"},
    "a narrow one": {"COLUMNS": "20", "TERM": "xterm"},
    "no home": {"HOME": "/nonexistent"},
}


@pytest.mark.parametrize("env", WORLDS.values(), ids=WORLDS.keys())
def test_strange_worlds(desk: Any, env: dict[str, str]) -> None:
    text = "Grüße, 世界 \N{FACE WITH TEARS OF JOY}"
    desk.prompts([{"id": "ä", "prompt": text, "note": text}])
    desk.write(input={"path": "prompts.jsonl", "keep": ["note"]})
    done = desk.run("run", "job.yaml", "--json", env=env)
    assert done.code == 0, done.err
    assert done.summary["succeeded"] == 1
    assert [(one["id"], one["text"], one["meta"]) for one in desk.records()] == [("ä", text, {"note": text})]


@pytest.mark.parametrize("env", WORLDS.values(), ids=WORLDS.keys())
def test_errors_in_strange_worlds(desk: Any, env: dict[str, str]) -> None:
    desk.write(output=None, ausgänge="世界")
    done = desk.run("run", "job.yaml", "--json", env=env)
    assert (done.code, done.out) == (2, "")
    assert "error[E0203]: unknown key" in done.err


def test_names_of_files_in_any_script(desk: Any) -> None:
    (desk.root / "frägen").mkdir()
    desk.prompts(1, "frägen/世界.jsonl")
    desk.write(input={"path": "frägen/世界.jsonl"}, output="äntworten.jsonl")
    assert desk.run("run", "job.yaml").code == 0
    assert (desk.root / "äntworten.jsonl").read_bytes().count(b"\n") == 1


@posix
def test_a_live_line_and_a_clean_screen(desk_for: Callable[[str], Any], simulate: Callable[..., Any]) -> None:
    sim = simulate(answers="echo", latency="300ms")
    desk = desk_for(sim.base_url)
    desk.prompts(24)
    desk.write()
    code, screen = in_terminal(desk, "run", "job.yaml", "--json")
    assert code == 0, screen
    assert b"in flight 8" in screen
    assert screen.count(b"\x1b[?25l") == screen.count(b"\x1b[?25h") > 0  # the cursor is hidden and shown again
    *_, after = screen.split(b"\x1b[?25h")
    assert b"in flight" not in after
    assert b"succeeded    24 of 24" in after
    assert json.loads(after.split(b"\r\n")[-2])["succeeded"] == 24


@posix
@pytest.mark.parametrize("env", [{"TERM": "dumb"}, {"CI": "true"}])
def test_no_live_line_where_it_cannot_be_drawn(desk: Any, env: dict[str, str]) -> None:
    desk.prompts(3)
    desk.write()
    code, screen = in_terminal(desk, "run", "job.yaml", **env)
    assert code == 0, screen
    assert b"\x1b" not in screen
    assert b"succeeded    3 of 3" in screen


@posix
def test_an_error_on_a_terminal(desk: Any) -> None:
    desk.prompts(3)
    desk.write(providers={"fast": {"use": "openai-chat", "model": "m", "\x1b]0;owned\x07": 1}})
    code, screen = in_terminal(desk, "run", "job.yaml")
    assert code == 2
    assert b"error[E0203]" in screen
    assert b"\x1b" not in screen


@posix
@pytest.mark.parametrize("columns", [20, 80])
def test_hostile_answers_reach_the_file_and_not_the_terminal(desk: Any, columns: int) -> None:
    desk.prompts([{"id": f"q{at}", "prompt": HOSTILE} for at in range(30)])
    desk.write()
    code, screen = in_terminal(desk, "run", "job.yaml", "--json", columns=columns)
    assert code == 0, screen
    assert {one["text"] for one in desk.records()} == {HOSTILE}
    for part in (b"\x1b[31m", b"\x1b]52", b"\x9b", "\u202e".encode(), b"\x00", b"[bold red]"):
        assert part not in screen


@posix
def test_hostile_errors_are_shown_harmless(desk_for: Callable[[str], Any], simulate: Callable[..., Any]) -> None:
    message = json.dumps(HOSTILE.replace("\x00", "").replace('"', "'"))[1:-1]
    sim = simulate(faults=[{"kind": "status", "status": 401, "message": json.loads(f'"{message}"')}])
    desk = desk_for(sim.base_url)
    desk.prompts(5)
    desk.write()
    code, screen = in_terminal(desk, "run", "job.yaml")
    assert code == 3, screen
    assert rb"\x1b[31mred" in screen  # shown, as an escape
    assert rb"\u202egnp.exe" in screen
    assert b"[bold red]rich[/foo]" in screen
    for part in (b"\x1b[31m", b"\x1b]52", b"\x9b", "\u202e".encode()):
        assert part not in screen


def test_no_run_says_so_for_a_reader_of_machines(desk: Any) -> None:
    """Without a run there is no summary: stdout stays empty rather than half."""
    done = desk.run("run", "nothing.yaml", "--json")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error[")
