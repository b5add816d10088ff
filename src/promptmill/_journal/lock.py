"""One owner of a run at a time: a lock of the operating system, and the owner's name beside it."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from promptmill._lockholder import holder_of
from promptmill._statepaths import is_file, open_file
from promptmill.errors import RunLocked, StorageError
from promptmill.files import open_to_read, remove, rename

_BINARY: Final = getattr(os, "O_BINARY", 0)

_PAUSE: Final = 0.02
_TRIES: Final = 100
_LEAST_TRIES: Final = 5

_LONGEST_NAME: Final = 64 * 1024
"""Bytes; a name of ours has some hundred."""


class Owner(msgspec.Struct, frozen=True):
    """Who holds a run. ``since`` in seconds since the epoch."""

    host: str
    pid: int
    since: float

    @classmethod
    def here(cls, wall: float) -> Owner:
        return cls(socket.gethostname(), os.getpid(), wall)

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self.since))
        return f"process {self.pid} on {self.host}, since {since}"


class RunLock:
    """Held from :meth:`acquire` to :meth:`release`; the system lets go of it when the process dies, however it does."""

    def __init__(self, path: Path) -> None:
        self._lock = path
        self._name = path.with_suffix(".owner")
        self._descriptor = -1

    def acquire(self, owner: Owner) -> None:
        """Take the lock.

        Raises:
            RunLocked: another process has it; the message says which.
            StorageError: there is no lock to be had here.
        """
        with _naming(self._lock):
            descriptor = open_file(self._lock, os.O_RDWR | os.O_CREAT | _BINARY)
        try:
            self._insist(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        self._put_name(owner)

    def _put_name(self, owner: Owner) -> None:
        """Write the name beside the lock. A full disk must not keep us out: the lock is what counts."""
        unfinished = self._name.with_suffix(".new")
        is_file(unfinished)  # or it is refused
        with contextlib.suppress(OSError, StorageError):
            remove(unfinished)
            descriptor = open_file(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY)
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.encode(owner))
            rename(unfinished, self._name)

    def _insist(self, descriptor: int) -> None:
        """Try for a moment: somebody may only be looking, or have the lock and not yet written a name beside it."""
        before = self.owner()
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(_PAUSE)
            with _naming(self._lock):
                if _try_lock(descriptor):
                    return
            owner = self.owner()
            if attempt >= _LEAST_TRIES and (owner != before or _may_be_alive(owner)):
                break
        raise RunLocked(
            f"the run is in the hands of {self._holder(descriptor)}; nothing was sent",
            hint="wait for it, or look at it with `promptmill status`",
        )

    def _holder(self, descriptor: int) -> str:
        """The name beside the lock, and the process that has it, where that is another one."""
        owner, holder = self.owner(), holder_of(descriptor)
        if holder is None or (owner is not None and owner.pid == holder.pid):
            return str(owner or "another process")
        return str(holder)

    def owner(self) -> Owner | None:
        """Who wrote the name beside the lock last; it need not hold it any more."""
        with contextlib.suppress(OSError, msgspec.DecodeError), open_to_read(self._name) as file:
            return msgspec.json.decode(file.read(_LONGEST_NAME), type=Owner)
        return None

    def is_held(self) -> bool:
        """Whether some process has the lock now."""
        try:
            descriptor = open_file(self._lock, os.O_RDWR | _BINARY)
        except OSError:
            return False
        try:
            if not _try_lock(descriptor):
                return True
            _unlock(descriptor)
            return False
        finally:
            os.close(descriptor)

    def release(self) -> None:
        if self._descriptor >= 0:
            _unlock(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1


def _may_be_alive(owner: Owner | None) -> bool:
    """Whether the name beside the lock can be that of its holder, rather than of a process that is no more."""
    if owner is None:
        return False
    if owner.host != socket.gethostname() or sys.platform == "win32":
        return True
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"the run cannot be locked with {str(path)!r}: {error.strerror}",
            code="E0646",
            hint="keep the job on a file system of this machine, where its directory can be written",
        ) from error


if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        with contextlib.suppress(OSError):
            os.lseek(descriptor, 0, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
