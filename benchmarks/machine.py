"""What the figures were measured on, and where processes may run."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("promptmill", "promptmill-openai", "aiohttp", "httpx", "openai", "anyio", "msgspec", "pydantic", "uvloop")


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
        "python": platform.python_version(),
        "load_average": [round(one, 2) for one in os.getloadavg()],
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
        "commit": _commit(),
    }


def lines(described: dict[str, object]) -> list[str]:
    """The description for people."""
    versions = described["versions"]
    assert isinstance(versions, dict)
    return [
        f"{described['cpu']}, {described['cores']} cores, {described['memory_gib']} GiB, {described['system']}",
        f"Python {described['python']}, " + ", ".join(f"{name} {one}" for name, one in versions.items()),
        f"load average at the start {described['load_average']}, commit {described['commit']}",
    ]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu() -> str:
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text("utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def _memory_gib() -> float:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)


def _commit() -> str:
    here = Path(__file__).parent
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=here, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"
