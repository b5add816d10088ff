"""Every page works when it is followed to the letter.

A page is run from its top in an empty folder: a block with a title is a file, lines of a ``console`` block that begin
with ``$`` are commands, ``python`` blocks are programs. What a command is shown to print must be printed, numbers
apart; ``...`` stands for anything. A command may fail when the page shows so: by an error, or by ``echo $?`` after it.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MOST_NOT_RUN = 12
"""Blocks that are not run need a reason each, and stay few."""

TIMEOUT = 50.0
ADDRESS = "127.0.0.1:8000"
SHELLS = {"sh", "bash", "shell", "zsh", "powershell"}

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the pages are written for a POSIX shell")

Blocks = Callable[[Path], list[Any]]


class Reader:
    """Someone who does what the page says. Simulators get a port of their own instead of 8000."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._site = folder / ".site"
        self._state = folder / ".state"
        self._address = f"127.0.0.1:{_free_port()}"
        self._simulator: subprocess.Popen[str] | None = None
        self._code = 0
        self._state.write_text(f"cd {shlex.quote(str(folder))}\n", "utf-8")
        path = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
        python_path = [str(self._site), os.environ.get("PYTHONPATH", "")]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "PYTEST_"))}
        self._env = kept | {
            "PATH": os.pathsep.join(path),
            "PYTHONPATH": os.pathsep.join(part for part in python_path if part),
            "HOME": str(folder / ".home"),
            "COLUMNS": "120",
        }

    def write(self, name: str, text: str) -> None:
        file = self._folder / name
        assert file.resolve().is_relative_to(self._folder.resolve())
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")

    def run_python(self, text: str) -> None:
        self.write(".program.py", text)
        self.type(f"{shlex.quote(sys.executable)} .program.py", [], may_fail=False)

    def type(self, command: str, shown: list[str], *, may_fail: bool) -> None:
        """Type a command and compare what it prints with what the page shows."""
        command = command.replace("pip install -e .", self._install())
        if shlex.split(command)[:2] == ["promptmill", "simulate"]:
            self._simulate(command)
            return
        self._use_address()
        script = f"source {shlex.quote(str(self._state))}\n(exit {self._code})\n{command}\ncode=$?\n"
        script += f"{{ export -p; echo cd \"'$PWD'\"; }} > {shlex.quote(str(self._state))}\nexit $code\n"
        done = subprocess.run(
            ["bash", "-c", script.replace(ADDRESS, self._address)],
            cwd=self._folder,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        self._code = done.returncode
        printed = f"$ {command}\n{done.stdout}"
        assert done.returncode == 0 or may_fail or any("error" in line for line in shown), printed
        for line in shown:
            assert re.search(_pattern(line), done.stdout, re.MULTILINE), f"not printed: {line!r}\n{printed}"

    def close(self) -> None:
        if self._simulator is not None:
            self._simulator.terminate()
            self._simulator.communicate()
            self._simulator = None

    def _simulate(self, command: str) -> None:
        """One simulator at a time, as when the page says to stop the one before; always on the same port."""
        self.close()
        port = self._address.rpartition(":")[2]
        self._simulator = subprocess.Popen(
            [*shlex.split(command), "--port", port], cwd=self._folder, env=self._env, stdout=subprocess.PIPE, text=True
        )
        out: IO[str] | None = self._simulator.stdout
        assert out is not None
        assert out.readline().strip() == f"http://{self._address}/v1"

    def _use_address(self) -> None:
        for file in self._folder.rglob("*"):
            if file.suffix in (".yaml", ".py") and ADDRESS in (text := file.read_text("utf-8")):
                file.write_text(text.replace(ADDRESS, self._address), "utf-8")

    def _install(self) -> str:
        """Not into the environment of these tests, and without the network: into a folder of the page's own."""
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
        return shlex.join([*pip, "--no-index", "--no-build-isolation", "--upgrade", "--target", str(self._site), "."])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _pattern(line: str) -> str:
    """A line as a pattern: measured numbers are any numbers, blanks any blanks, ... anything.

    Measured is what has a unit of time, a point or a comma; a count is what the page says it is.
    """
    pattern = re.escape(re.sub(r" +", " ", line.strip())).replace(r"\.\.\.", ".*")
    pattern = re.sub(r"\d+\\ (?:ms|s)\b|\d+(?:(?:\\\.|,)\d+)+\\ (?:ms|s)\b", r"[\\d,.]+ (?:ms|s|min \\d+ s)", pattern)
    pattern = re.sub(r"\d+(?:(?:\\\.|,)\d+)+", r"[\\d,.]+", pattern)
    pattern = pattern.replace(r":8000/", r":\d+/")
    return pattern.replace(r"\ ", r"\s+").replace(" ", r"\s+")


def _commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each command of a console block with the lines it is shown to print."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, rest = part.replace("\\\n", " ").partition("\n")
        yield command, [line for line in rest.split("\n") if line.strip(" .")]


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    someone = Reader(tmp_path)
    yield someone
    someone.close()


def _named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("page", PAGES, ids=_named)
def test_a_page_works_when_followed(page: Path, reader: Reader, blocks_of: Blocks) -> None:
    for block in blocks_of(page):
        if block.not_run:
            continue
        if block.title:
            reader.write(block.title, block.text)
        elif block.language == "python":
            reader.run_python(block.text)
        elif block.language == "console":
            pairs = list(_commands(block.text))
            assert pairs, f"{_named(page)}:{block.line}: no line begins with $"
            for at, (command, shown) in enumerate(pairs):
                asked = at + 1 < len(pairs) and pairs[at + 1][0] == "echo $?"
                reader.type(command, shown, may_fail=asked)


def test_blocks_that_are_not_run_are_few_and_have_a_reason(blocks_of: Blocks) -> None:
    reasons = [
        f"{_named(page)}:{block.line}: {block.not_run}" for page in PAGES for block in blocks_of(page) if block.not_run
    ]
    assert len(reasons) <= MOST_NOT_RUN, "\n".join(reasons)


def test_commands_stand_in_console_blocks(blocks_of: Blocks) -> None:
    other = [f"{_named(page)}:{block.line}" for page in PAGES for block in blocks_of(page) if block.language in SHELLS]
    assert other == []
