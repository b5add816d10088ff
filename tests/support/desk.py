"""A desk to run the program at, as a user does: a folder with a job in it, a simulated provider, a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

KEY = "sk-made-up-canary-5f2e81"

_UNWANTED = ("CI", "COLUMNS", "NO_COLOR", "OPENAI_API_KEY", "OPENAI_BASE_URL", "PROMPTMILL_DEBUG", "TERM")


class Done(NamedTuple):
    """How a process ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def summary(self) -> dict[str, Any]:
        """What stands on stdout: one JSON object on one line and nothing else."""
        assert self.out.count("\n") == 1, self.out
        assert self.out.endswith("\n")
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value


def program() -> list[str]:
    """The console script beside this interpreter, or what it does."""
    script = Path(sys.executable).with_name("promptmill.exe" if sys.platform == "win32" else "promptmill")
    if script.exists():
        return [str(script)]
    return [sys.executable, "-c", "from promptmill.cli.main import main; main()"]


class Desk:
    """A folder, the simulator that its jobs talk to, and the program."""

    key = KEY

    def __init__(self, root: Path, base_url: str) -> None:
        self.root = root
        self.base_url = base_url
        self.program = program()
        self.started: list[subprocess.Popen[bytes]] = []
        kept = {name: value for name, value in os.environ.items() if name not in _UNWANTED}
        kept = {name: value for name, value in kept.items() if not name.lower().endswith("_proxy")}
        self.env = {**kept, "DESK_KEY": KEY}
        self.job = root / "job.yaml"
        self.answers = root / "answers.jsonl"

    def prompts(self, rows: list[Any] | bytes | int, name: str = "prompts.jsonl") -> Path:
        """Write the input: rows, raw bytes, or this many prompts."""
        if isinstance(rows, int):
            rows = [{"id": f"q{at}", "prompt": f"question {at}"} for at in range(rows)]
        if isinstance(rows, list):
            rows = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
        path = self.root / name
        path.write_bytes(rows)
        return path

    def provider(self, **options: Any) -> dict[str, Any]:
        given = {"use": "openai-chat", "model": "m", "base_url": self.base_url, "api_key": "env:DESK_KEY"}
        return {**given, "max_concurrency": 8, "timeout": "20s", **options}

    def write(self, *, provider: Mapping[str, Any] | None = None, **changes: Any) -> Path:
        """Write the job file (JSON is YAML), with these keys instead; ``None`` leaves a key out."""
        job: dict[str, Any] = {
            "version": 1,
            "input": {"path": "prompts.jsonl"},
            "providers": {"fast": self.provider(**(provider or {}))},
            "retry": {"use": "exponential", "attempts": 3, "base": "10ms", "cap": "20ms"},
            "output": "answers.jsonl",
            **changes,
        }
        self.job.write_text(json.dumps({key: value for key, value in job.items() if value is not None}, indent=1))
        return self.job

    def start(self, *arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        """Start the program in the folder; stdout and stderr are pipes unless said otherwise. It ends with the test."""
        process = subprocess.Popen([*self.program, *map(str, arguments)], **self._settings(options))
        self.started.append(process)
        return process

    def run(self, *arguments: Any, stdin: bytes | None = None, **options: Any) -> Done:
        """Run the program to its end."""
        settings = self._settings(options)
        if stdin is not None:
            settings.pop("stdin")
            settings["input"] = stdin
        done = subprocess.run([*self.program, *map(str, arguments)], timeout=50, check=False, **settings)
        return Done(done.returncode, (done.stdout or b"").decode(), (done.stderr or b"").decode())

    def _settings(self, options: Mapping[str, Any]) -> dict[str, Any]:
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return {"cwd": self.root, **streams, **options, "env": {**self.env, **options.get("env", {})}}

    def records(self) -> list[dict[str, Any]]:
        """The answers, in the order of their ids; every line must be whole."""
        data = self.answers.read_bytes()
        assert data == b"" or data.endswith(b"\n")
        found = [json.loads(line) for line in data.split(b"\n")[:-1]]
        assert len({one["id"] for one in found}) == len(found)
        return sorted(found, key=lambda one: one["index"])


@pytest.fixture
def simulate() -> Iterator[Callable[..., Any]]:
    """Starts simulators with these options."""
    simulator = pytest.importorskip("promptmill_simulator")
    with ExitStack() as stack:

        def start(**options: Any) -> Any:
            return stack.enter_context(simulator.Simulator(simulator.SimulatorOptions.model_validate(options)))

        yield start


@pytest.fixture
def sim(simulate: Callable[..., Any]) -> Any:
    """A simulator that says back what it is asked."""
    return simulate(answers="echo")


@pytest.fixture
def desk_for(tmp_path: Path) -> Iterator[Callable[[str], Desk]]:
    """A desk for the provider at this base URL."""
    pytest.importorskip("promptmill_openai")
    desks: list[Desk] = []

    def make(base_url: str) -> Desk:
        desks.append(Desk(tmp_path, base_url))
        return desks[-1]

    yield make
    for process in (process for desk in desks for process in desk.started):
        with process:
            process.kill()


@pytest.fixture
def desk(desk_for: Callable[[str], Desk], sim: Any) -> Desk:
    return desk_for(sim.base_url)
