"""Disk space kept back, so that a full disk does not cost what is paid for already."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Final

from promptmill.errors import StorageError

BALLAST_BYTES: Final = 32 * 1024 * 1024
"""Room for the results in flight when the disk fills up."""

LARGEST_SHARE: Final = 8
"""At most one part in eight of what is free is taken."""

_CHUNK: Final = bytes(1024 * 1024)


class Ballast:
    """A file of zeros that can be given up."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> None:
        """Take the space. Raises StorageError when the disk is full already: nothing should be sent then."""
        size = min(BALLAST_BYTES, shutil.disk_usage(self._path.parent).free // LARGEST_SHARE)
        if self._path.exists() and self._path.stat().st_size >= size:
            return
        try:
            with self._path.open("wb") as file:
                for _ in range(max(size // len(_CHUNK), 1)):
                    file.write(_CHUNK)
        except OSError as error:
            self.drop()
            raise StorageError(
                f"there is no room beside {str(self._path)!r}: {error.strerror}; nothing was sent",
                code="E0642",
                hint="free some space, then run the same command again",
            ) from error

    def drop(self) -> None:
        """Give the space back."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
