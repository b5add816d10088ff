"""Every durable file operation goes through here.

A power cut may lose whatever was not synced, so each operation is one function or method of this module: easy to
read, and one place to make each of them fail in a test. All of it blocks: call it in a worker thread. Errors of the
system become :class:`StorageError` naming the path.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from promptmill.errors import StorageError

_BINARY = getattr(os, "O_BINARY", 0)  # Windows translates line ends without it


class DurableFile:
    """A regular file that is written at its end, synced, and cut back.

    After a failed write or sync nothing is known of what reached the disk, so every further operation but
    :meth:`close` is refused (the kernel may report a sync error only once).
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._broken = False

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open ``path``, creating it and its directories when absent; the new names are made durable too.

        Raises:
            StorageError: it cannot be opened, or is not a regular file.
        """
        with _naming(path, "opened", "E0601"):
            new = not path.exists()
            if new:
                _make_directory(path.parent)
            # Not blocking, or a pipe nobody reads would hold us up for ever.
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | _BINARY | getattr(os, "O_NONBLOCK", 0)
            descriptor = os.open(path, flags, 0o666)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise StorageError(
                    f"{str(path)!r} is not a regular file: its content could not be recovered after a crash",
                    code="E0612",
                    hint="write to a file, and copy it from there when the run is over",
                )
            if new:
                fsync_dir(path.parent)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(path, descriptor)

    def size(self) -> int:
        """Bytes in the file."""
        with _naming(self.path, "looked at", "E0601"):
            return os.fstat(self._descriptor).st_size

    def write(self, data: bytes) -> None:
        """Append all of ``data``, however many calls it takes."""
        with self._fatal("written", "E0602"):
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]

    def fsync(self) -> None:
        """Return when everything written is on the disk."""
        with self._fatal("synced to disk", "E0603"):
            _sync(self._descriptor)

    def truncate(self, length: int) -> None:
        """Cut the file back to ``length`` bytes."""
        with self._fatal("truncated", "E0602"):
            os.ftruncate(self._descriptor, length)

    def close(self) -> None:
        """Close the file without syncing it. Safe to call twice."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with _naming(self.path, "closed", "E0602"):
                os.close(descriptor)

    @contextmanager
    def _fatal(self, verb: str, code: str) -> Iterator[None]:
        if self._broken:
            raise StorageError(f"{str(self.path)!r} failed before and is not written any more", code=code)
        try:
            with _naming(self.path, verb, code):
                yield
        except StorageError:
            self._broken = True
            raise


def rename(source: Path, target: Path) -> None:
    """Move ``source`` over ``target`` in one step that survives a power cut. Sync the file's content before.

    Raises:
        StorageError: the system refuses.
    """
    with _naming(target, "put in place", "E0604"):
        os.replace(source, target)  # noqa: PTH105 - the durable operations call the system by its own names
    fsync_dir(target.parent)


def fsync_dir(path: Path) -> None:
    """Make the names in a directory durable. Windows does so by itself and cannot be asked to.

    Raises:
        StorageError: the system refuses.
    """
    if sys.platform != "win32":
        with _naming(path, "synced to disk", "E0603"):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _make_directory(path: Path) -> None:
    """Create ``path`` and its parents, each made durable in the one above."""
    if not path.is_dir():
        _make_directory(path.parent)
        path.mkdir(exist_ok=True)
        fsync_dir(path.parent)


def _sync(descriptor: int) -> None:
    if sys.platform == "darwin":
        import fcntl

        # fsync on macOS leaves the data in the drive's cache; source: man 2 fsync, F_FULLFSYNC.
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)


@contextmanager
def _naming(path: Path, verb: str, code: str) -> Iterator[None]:
    """Turn an error of the system into a StorageError that says what could not be done to which path."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise StorageError(
            f"{str(path)!r} cannot be {verb}: {reason}",
            code=code,
            hint="check the disk space, the permissions and the disk, then run the same command again",
        ) from error
