"""Every durable file operation goes through here.

A power cut may lose whatever was not synced, so each operation is one function or method of this module: easy to
read, and one place to make each of them fail in a test. All of it blocks: call it in a worker thread. Errors of the
system become :class:`StorageError` naming the path. What belongs to a run is opened without following links.
"""

from __future__ import annotations

import mmap
import os
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final, Self

from promptmill._lockholder import holder_of
from promptmill._statepaths import is_folder, make_folder, open_file, open_folder, reached
from promptmill.errors import RunLocked, StorageError

GROWTH_BYTES: Final = 256 * 1024
"""Room that is taken at once where a file written through memory has none left."""

RESERVE_BYTES: Final = 1024 * 1024
"""Room that is kept ahead of it."""

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
    def open(cls, path: Path, *, synced: bool = True) -> Self:
        """Open ``path``, creating it and its directories when absent.

        Its name is made durable too, also when it is there already: whoever made it may have been killed before that.
        ``synced`` False leaves this out, for a file that need not survive a power cut.

        Raises:
            StorageError: it cannot be opened, or is not a regular file.
        """
        with _naming(path, "opened", "E0601"):
            make_directory(path.parent)
            # Not blocking, or a pipe nobody reads would hold us up for ever.
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | _BINARY | getattr(os, "O_NONBLOCK", 0)
            descriptor = open_file(path, flags)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise _not_regular(path)
            if synced:
                fsync_dir(path.parent)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(path, descriptor)

    def claim(self) -> None:
        """Refuse to share the file: two processes appending to it would write into each other's records.

        The system lets go of the claim when the file is closed or the process dies. Windows is not asked: its locks
        would keep readers out. File systems without locks are not held to it.

        Raises:
            RunLocked: another process has claimed it.
        """
        if _try_lock(self._descriptor):
            return
        holder = holder_of(self._descriptor)
        mode = os.fstat(self._descriptor).st_mode
        if holder is not None and holder.is_another_user and not mode & (stat.S_IWGRP | stat.S_IWOTH):
            return  # whoever may read a file can lock it, and must not stop a run with it: they cannot write it
        raise RunLocked(
            f"the output {str(self.path)!r} is being written by {holder or 'another process'}",
            code="E0702",
            hint="wait for it to end, or end it; two runs cannot write to one file",
        )

    def size(self) -> int:
        """Bytes in the file."""
        with _naming(self.path, "looked at", "E0601"):
            return os.fstat(self._descriptor).st_size

    def write(self, data: bytes) -> None:
        """Append all of ``data``, however many calls it takes."""
        # Not in `_fatal`, which takes longer than the writing: this is called twice for each request.
        self._refuse_if_broken("E0602")
        written = 0
        try:
            while written < len(data):
                written += os.write(self._descriptor, data[written:])
        except OSError as error:
            self._broken = True
            raise _refusal(self.path, "written", "E0602", error) from error

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

    def _refuse_if_broken(self, code: str) -> None:
        if self._broken:
            raise StorageError(f"{str(self.path)!r} failed before and is not written any more", code=code)

    @contextmanager
    def _fatal(self, verb: str, code: str) -> Iterator[None]:
        self._refuse_if_broken(code)
        try:
            with _naming(self.path, verb, code):
                yield
        except StorageError:
            self._broken = True
            raise


class MappedFile(DurableFile):
    """A file written at its end through memory: no call of the system for each write, which would cost more than all
    that is written. It survives the end of the process as other writes do, and no power cut before a sync.

    The room is taken beforehand, so that a full disk is an error as everywhere and not SIGBUS. Until the file is closed
    there are zeros behind what was written. A file system that cannot map files is written to as usual.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        super().__init__(path, descriptor)
        self._end = self._mapped = self._room = os.fstat(descriptor).st_size
        self._memory: mmap.mmap | None = None
        self._can_map = True
        self._reserving = threading.Lock()

    def size(self) -> int:
        """Bytes written, without the room behind them."""
        return self._end

    def write(self, data: bytes) -> None:
        """Append all of ``data``. Raises StorageError: then nothing of it is there."""
        self._refuse_if_broken("E0602")
        end = self._end + len(data)
        if end > self._mapped and self._can_map:
            self._grow(end)
        if self._memory is None:
            super().write(data)
        else:
            self._memory[self._end : end] = data
        self._end = end

    def reserve(self) -> None:
        """Take room for what will be written: from another thread than the one that writes, since it may take long on a
        busy disk. Where it cannot be taken nothing is said; whoever needs it will be told."""
        # Never into a file that was closed meanwhile, whose descriptor may be another's, or that is mapped no longer.
        with self._reserving, suppress(OSError):
            if self._memory is not None and self._room - self._end < RESERVE_BYTES:
                self._room += os.write(self._descriptor, bytes(RESERVE_BYTES))

    def close(self) -> None:
        with self._reserving:
            if self._memory is not None:
                self._unmap()
                with suppress(StorageError):
                    self.truncate(self._end)
            super().close()

    def _grow(self, end: int) -> None:
        with self._reserving:
            if end > self._room:
                more = max(end - self._room, GROWTH_BYTES)
                super().write(bytes(more))  # and not just a longer file: only what is written has its place on the disk
                self._room += more
            self._unmap()
            try:
                self._memory = mmap.mmap(self._descriptor, self._room)
            except OSError:
                self._can_map = False
                self.truncate(self._end)
            else:
                self._mapped = self._room

    def _unmap(self) -> None:
        memory, self._memory = self._memory, None
        if memory is not None:
            memory.close()


def rename(source: Path, target: Path) -> None:
    """Move ``source`` over ``target`` in one step that survives a power cut. Sync the file's content before.

    Raises:
        StorageError: the system refuses.
    """
    with (
        _naming(target, "put in place", "E0604"),
        reached(source) as (old, old_folder),
        reached(target) as (new, new_folder),
    ):
        os.replace(old, new, src_dir_fd=old_folder, dst_dir_fd=new_folder)
    fsync_dir(target.parent)


def fsync_dir(path: Path) -> None:
    """Make the names in a directory durable. Windows does so by itself and cannot be asked to.

    Raises:
        StorageError: the system refuses.
    """
    if sys.platform != "win32":
        with _naming(path, "synced to disk", "E0603"):
            descriptor = open_folder(path)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def remove(path: Path) -> None:
    """Delete a file, if it is there; after a power cut it may be there again.

    Raises:
        StorageError: the system refuses.
    """
    with _naming(path, "deleted", "E0604"), suppress(FileNotFoundError), reached(path) as (name, folder):
        os.unlink(name, dir_fd=folder)


def make_place(path: Path) -> None:
    """Make the directory of a file that a library opens by its path, such as a database.

    Raises:
        StorageError: the system refuses, or something is there that is no regular file: opening it might never end.
    """
    make_directory(path.parent)
    with _naming(path, "looked at", "E0601"), suppress(FileNotFoundError):
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - by the system's own name, as the others
            raise _not_regular(path)


def remove_directory(path: Path) -> None:
    """Delete an empty directory; after a power cut it may be there again.

    Raises:
        StorageError: the system refuses, as when something is in it.
    """
    with _naming(path, "deleted", "E0604"), reached(path) as (name, folder):
        os.rmdir(name, dir_fd=folder)


def make_directory(path: Path) -> None:
    """Create ``path`` and its parents, each made durable in the one above.

    Raises:
        StorageError: the system refuses.
    """
    with _naming(path, "looked at", "E0601"):
        found = is_folder(path)
    if not found:
        make_directory(path.parent)
        with _naming(path, "made", "E0601"), suppress(FileExistsError):
            make_folder(path)
        fsync_dir(path.parent)


def open_to_read(path: Path) -> IO[bytes]:
    """Open a file to read its bytes. One of a run's own, such as that of a batch, is never reached through a link.

    Raises:
        StorageError: it is a run's own, and not what this program made.
        OSError: the system refuses.
    """
    return os.fdopen(open_file(path, os.O_RDONLY | _BINARY), "rb")


if sys.platform == "win32":

    def _try_lock(descriptor: int) -> bool:  # noqa: ARG001 - the signature of the other one
        return True

else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        """False only when somebody else has the lock: a file system without locks has nobody else."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True


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
        raise _refusal(path, verb, code, error) from error


def _not_regular(path: Path) -> StorageError:
    return StorageError(
        f"{str(path)!r} is not a regular file: its content could not be recovered after a crash",
        code="E0612",
        hint="write to a file, and copy it from there when the run is over",
    )


def _refusal(path: Path, verb: str, code: str, error: OSError) -> StorageError:
    reason = error.strerror or type(error).__name__
    return StorageError(
        f"{str(path)!r} cannot be {verb}: {reason}",
        code=code,
        hint="check the disk space, the permissions and the disk, then run the same command again",
    )
