"""Who holds a lock on a file, where Linux tells."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

_LOCKS: Final = Path("/proc/locks")
_LONGEST_COMMAND: Final = 80


class Holder(msgspec.Struct, frozen=True):
    """A process with a lock. ``command`` may be empty, and ``user`` is a number; None: not known."""

    pid: int
    command: str
    user: int | None

    @property
    def is_another_user(self) -> bool:
        """Surely somebody else, and not the administrator, who may write everywhere."""
        return self.user is not None and self.user not in (0, os.geteuid())

    def __str__(self) -> str:
        command = f" ({self.command})" if self.command else ""
        user = f" of user {self.user}" if self.is_another_user else ""
        return f"process {self.pid}{command}{user}"


def holder_of(descriptor: int) -> Holder | None:
    """The process that holds a lock (flock) on an open file; None where the system does not tell.

    Source of the format: proc(5), ``/proc/locks``.
    """
    with suppress(OSError, ValueError):
        wanted = str(os.fstat(descriptor).st_ino)
        for line in _LOCKS.read_text("ascii", "replace").split("\n"):
            fields = line.split()
            # "1: FLOCK ADVISORY WRITE 1234 fe:00:2179073 0 EOF"; "->" stands before those who wait.
            if len(fields) >= 6 and fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == wanted:
                pid = int(fields[4])
                if pid > 0 and pid != os.getpid():
                    return _process(pid)
    return None


def _process(pid: int) -> Holder:
    folder = Path("/proc") / str(pid)
    user, command = None, b""
    with suppress(OSError):
        user = folder.stat().st_uid
    with suppress(OSError):
        command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").strip()
    return Holder(pid, command.decode("utf-8", "replace")[:_LONGEST_COMMAND], user)
