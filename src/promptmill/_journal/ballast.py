"""Disk space kept back, so that a full disk does not cost what is paid for already."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from promptmill._statepaths import open_file
from promptmill.errors import StorageError
from promptmill.files import remove

BALLAST_BYTES: Final = 32 * 1024 * 1024
"""Room for the results in flight when the disk fills up."""

LARGEST_SHARE: Final = 8
"""At most one part in eight of what is free is taken."""

_LEAST_BYTES: Final = 1024 * 1024

_BINARY: Final = getattr(os, "O_BINARY", 0)
_CHUNK: Final = bytes(64 * 1024)


class Ballast:
    """A file of zeros that can be given up."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> None:
        """Take the space. Raises StorageError when the disk is full already: nothing should be sent then."""
        try:
            size = max(min(BALLAST_BYTES, shutil.disk_usage(self._path.parent).free // LARGEST_SHARE), _LEAST_BYTES)
            with os.fdopen(open_file(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | _BINARY), "ab") as file:
                _allocate(file.fileno(), file.seek(0, os.SEEK_END), size)
        except OSError as error:
            self.drop()
            raise StorageError(
                f"there is no room beside {str(self._path)!r}: {error.strerror}; nothing was sent",
                code="E0642",
                hint="free some space, then run the same command again",
            ) from error

    def drop(self) -> None:
        """Give the space back."""
        with contextlib.suppress(StorageError):
            remove(self._path)


def _allocate(descriptor: int, present: int, size: int) -> None:
    """Make the file ``size`` bytes long, in space that is its own."""
    if hasattr(os, "posix_fallocate"):
        with _unless_unsupported():
            os.posix_fallocate(descriptor, 0, size)
            return
    while present < size:
        present += os.write(descriptor, _CHUNK)


@contextlib.contextmanager
def _unless_unsupported() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise
