"""The help: complete, and with an example for every command."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from promptmill._registry import Registry
from promptmill.cli import main

COMMANDS = Registry().names("command")


def test_the_help_names_every_command(desk: Any) -> None:
    done = desk.run("--help")
    assert (done.code, done.err) == (0, "")
    listed = done.out.split("Commands:\n")[1]
    assert {line.split()[0] for line in listed.split("\n") if line.strip()} == set(COMMANDS)
    assert "promptmill run job.yaml" in done.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_an_example(desk: Any, command: str) -> None:
    done = desk.run(command, "--help")
    assert (done.code, done.err) == (0, "")
    _, _, examples = done.out.partition("Example")
    assert f" promptmill {command}" in examples


def test_the_version(desk: Any) -> None:
    from importlib.metadata import version

    assert desk.run("--version") == (0, f"{version('promptmill')}\n", "")


class Broken(Registry):
    """A registry with a command whose module does not load."""

    def __init__(self) -> None:
        whole = [point for point in Registry()._points if point.name.startswith("command.")]
        super().__init__([*whole, EntryPoint("command.broken", "promptmill_that_is_gone", "promptmill")])


@pytest.fixture
def with_broken_command(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(main, "Registry", Broken)
    group = main.typer.main.get_command(main.app)
    monkeypatch.setattr(main, "app", lambda: group.main(sys.argv[1:], prog_name="promptmill"))
    return


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["promptmill", *arguments])
    with pytest.raises(SystemExit) as ended:
        main.main()
    return int(str(ended.value.code or 0))


@pytest.mark.usefixtures("with_broken_command")
def test_one_broken_command_does_not_take_the_others_down(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(monkeypatch, "--help") == 0
    out = capsys.readouterr().out
    assert "(Out of order: command 'broken'" in out
    assert "Run a job" in out


@pytest.mark.usefixtures("with_broken_command")
@pytest.mark.parametrize("arguments", [[], ["--json", "x"], ["--help"]])
def test_a_broken_command_says_why_whatever_it_is_given(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert run_main(monkeypatch, "broken", *arguments) == 2
    assert "promptmill_that_is_gone" in capsys.readouterr().err
