"""Running a case in a process of its own, with what the system counts for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from machine import pinned

HERE = Path(__file__).parent


def scratch() -> Path:
    """Where files are made: beside the results, since a temporary folder may be in memory and sync for free."""
    folder = HERE / "results" / "scratch"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class CaseFailed(Exception):
    """A process that did not do what it should have done."""


def run(script: str, *args: object, core: int | None = None) -> dict[str, Any]:
    """Run a script of this folder with this Python; see :func:`run_command`."""
    return run_command([sys.executable, str(HERE / script), *map(str, args)], core=core)


def run_command(
    command: Sequence[str], *, core: int | None = None, env: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Run ``command`` and return the JSON object it prints last, with the figures of the whole process:
    ``process_wall_s``, ``process_cpu_s`` (user and system, all threads) and ``peak_mib``.

    Raises:
        CaseFailed: it ended with an error; its last words are the message.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.perf_counter()
        process = subprocess.Popen(
            pinned(command, core), stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment() | dict(env or {})
        )
        try:
            _, status, used = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        printed, said = _content(out), _content(err)
    if process.returncode != 0:
        raise CaseFailed(f"{' '.join(command[1:])}: exit code {process.returncode}\n{said[-2000:]}")
    kib = 1024 if sys.platform == "darwin" else 1
    return {
        **json.loads(printed.strip().rpartition("\n")[2]),
        "process_wall_s": wall,
        "process_cpu_s": used.ru_utime + used.ru_stime,
        "peak_mib": round(used.ru_maxrss / kib / 1024, 1),
    }


def environment() -> dict[str, str]:
    """Ours, but compiled modules are kept, as everywhere else, or each process would compile them again."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return environment | {"PYTHONPYCACHEPREFIX": str(scratch() / "compiled")}


def _content(file: Any) -> str:
    file.seek(0)
    return str(file.read().decode("utf-8", "replace"))
