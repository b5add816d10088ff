"""How long it takes to begin: ``part_startup.py [TIMES]``.

Each as often as asked (10 times), in a process of its own, in turns: the bare interpreter, importing promptmill,
``promptmill --help``, and a job of ten rows from the command to the first request that its server sees. Prints the
seconds of all and their medians. Compiled modules are kept, as after any installation.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import machine
import measuring
from cli_runs import PROGRAM
from jobs import openai_chat, questions, write_job
from processes import CaseFailed, environment, scratch

ROWS = 10
TIMES = 10
TARGETS_MS = {"import": 250, "help": 350, "first_request": 600}
LABELS = {
    "python": "the interpreter alone",
    "import": "import promptmill",
    "help": "promptmill --help",
    "first_request": "promptmill run, to its first request",
}


def measure(core: int | None, times: int) -> dict[str, Any]:
    """Seconds of each, ``times`` times after once that does not count."""
    program = Path(sysconfig.get_path("scripts")) / "promptmill"
    command = [str(program)] if program.exists() else PROGRAM
    plain = {
        "python": [sys.executable, "-c", "pass"],
        "import": [sys.executable, "-c", "import promptmill"],
        "help": [*command, "--help"],
    }
    found: dict[str, list[float]] = {name: [] for name in LABELS}
    for _ in range(times + 1):
        for name, words in plain.items():
            found[name].append(_seconds(words, core))
        found["first_request"].append(_to_first_request(command, core))
    rounds = {name: all_[1:] for name, all_ in found.items()}
    return {"rounds": rounds, "median_s": {name: statistics.median(all_) for name, all_ in rounds.items()}}


def table(found: dict[str, Any]) -> Iterator[str]:
    yield f"start-up, medians of {len(found['rounds']['help'])}"
    for name, label in LABELS.items():
        seconds = found["rounds"][name]
        target = f", wanted at most {TARGETS_MS[name]}" if name in TARGETS_MS else ""
        spread = f"{1000 * min(seconds):.0f}-{1000 * max(seconds):.0f}"
        yield f"  {label}: {1000 * found['median_s'][name]:.0f} ms ({spread}{target})"


def _seconds(command: Sequence[str], core: int | None) -> float:
    started = time.perf_counter()
    done = subprocess.run(
        machine.pinned(command, core), stdin=subprocess.DEVNULL, capture_output=True, env=environment(), check=False
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        raise CaseFailed(f"{' '.join(command)}: {done.stderr.decode('utf-8', 'replace')[-2000:]}")
    return seconds


def _to_first_request(command: Sequence[str], core: int | None) -> float:
    """The server is the least there can be: it notes when the first bytes come, and ends the connection."""
    with socket.create_server(("127.0.0.1", 0)) as server, tempfile.TemporaryDirectory(dir=scratch()) as name:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        job = write_job(Path(name), openai_chat(url, ROWS), questions(measuring.prompt, ROWS))
        words = machine.pinned([*command, "run", str(job), "--quiet"], core)
        with tempfile.TemporaryFile() as said:
            started = time.perf_counter()
            process = subprocess.Popen(words, env=environment(), stdin=subprocess.DEVNULL, stdout=said, stderr=said)
            try:
                return _first_byte(server, process) - started
            finally:
                process.kill()
                process.wait()


def _first_byte(server: socket.socket, process: subprocess.Popen[bytes]) -> float:
    """When it came. Raises CaseFailed when the process has ended without one."""
    server.settimeout(0.2)
    while process.poll() is None:
        with suppress(TimeoutError):
            connection, _ = server.accept()
            with connection:
                connection.settimeout(30)
                connection.recv(1)
                return time.perf_counter()
    raise CaseFailed(f"the job ended with {process.returncode} and sent no request")


if __name__ == "__main__":
    os.chdir(Path(__file__).parent)
    print(json.dumps(measure(machine.cores()[0], int(sys.argv[1]) if len(sys.argv) > 1 else TIMES)))
