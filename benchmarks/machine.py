"""What the figures were measured on, and where processes may run."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from importlib.metadata import distributions
from pathlib import Path

PACKAGES = ("promptmill", "promptmill-openai", "aiohttp", "pyreqwest", "httpx", "openai", "anyio", "msgspec", "uvloop")
"""Those that people are shown; the versions of all that is installed are with the figures."""

OPEN_FILES = 16_384
"""What a run with thousands of connections needs, on both sides."""


def cores() -> tuple[int | None, int | None]:
    """The core of the clients and the core of the server; None where processes cannot be pinned or there is only one.

    A client has one core to itself, so that a rate is a rate per core and the server takes nothing away from it.
    """
    if not hasattr(os, "sched_getaffinity") or not shutil.which("taskset"):
        return None, None
    usable = sorted(os.sched_getaffinity(0))
    return (usable[0], usable[-1]) if len(usable) > 1 else (None, None)


def pinned(command: Sequence[str], core: int | None) -> list[str]:
    """``command``, to run on one core."""
    return list(command) if core is None else ["taskset", "-c", str(core), *command]


def described() -> dict[str, object]:
    """The machine and the versions of everything that matters."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gib": _memory_gib(),
        "system": f"{platform.system()} {platform.release()}",
        "kernel": platform.version(),
        "python": platform.python_version(),
        "python_build": f"{platform.python_implementation()}, {platform.python_compiler()}",
        "load_average": load(),
        "versions": dict(sorted((one.metadata["Name"], one.version) for one in distributions())),
        "programs": {name: found for name, command in _PROGRAMS.items() if (found := _program(name, command))},
        "commit": _git("rev-parse", "--short", "HEAD") or "unknown",
        "changed_since": bool(_git("status", "--porcelain", "--untracked-files=no")),
    }


_PROGRAMS = {"nginx": "-v", "wrk": "-v"}


def load() -> list[float]:
    """How busy the machine is: the load of the last 1, 5 and 15 minutes."""
    return [round(one, 2) for one in os.getloadavg()]


def cpu_seconds(pid: int) -> float:
    """CPU time, user and system, that a process and its children have used. Linux only; 0 elsewhere."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text("utf-8").split()
    except OSError:
        return 0.0
    # Fields 14 and 15 of proc(5); the state, which is field 3, is the first after the name.
    ticks = int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK") + sum(cpu_seconds(int(child)) for child in children)


def program(name: str) -> str | None:
    """Where a program is, also where only root looks for it; None when it is not installed."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def allow_open_files() -> int:
    """Raise the limit on open files of this process and what it starts as far as it may and needs; return it."""
    import resource  # not on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return OPEN_FILES
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(soft, wanted)


def lines(described: dict[str, object]) -> list[str]:
    """The description for people."""
    versions = described["versions"]
    assert isinstance(versions, dict)
    programs = described["programs"]
    assert isinstance(programs, dict)
    known = [f"{name} {versions[name]}" for name in PACKAGES if name in versions]
    known += [f"{name} {programs.get(name, 'not installed')}" for name in _PROGRAMS]
    changed = ", with changes" if described["changed_since"] else ""
    return [
        f"{described['cpu']}, {described['cores']} cores, {described['memory_gib']} GiB, {described['system']}",
        f"Python {described['python']}, {', '.join(known)}",
        f"load average at the start {described['load_average']}, commit {described['commit']}{changed}",
    ]


def _program(name: str, command: str) -> str | None:
    """The version a program tells, which nginx and wrk do on different streams and in different words."""
    path = program(name)
    if path is None:
        return None
    said = subprocess.run([path, command], capture_output=True, text=True, check=False)
    found = re.search(r"(\d+\.\d[\w.+-]*)", said.stdout + said.stderr)
    return found[1] if found else "of an unknown version"


def _cpu() -> str:
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text("utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def _memory_gib() -> float:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)


def _git(*words: str) -> str:
    here = Path(__file__).parent
    return subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=False).stdout.strip()
