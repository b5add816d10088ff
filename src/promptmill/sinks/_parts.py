"""A file that is there under its name only when it is complete."""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path
from typing import Any

from promptmill.files import DurableFile, remove, rename


class PartFile(io.RawIOBase):
    """Written as ``_name.tmp``, which readers of a directory leave out; :meth:`finish` syncs it and gives it its name.

    ``writer`` is a writer of pyarrow's on this file, set by whoever makes both.
    """

    def __init__(self, path: Path) -> None:
        self.rows = 0
        self.writer: Any = None
        self._path = path
        self._partial = path.with_name(f"_{path.name}.tmp")
        self._length = 0
        remove(self._partial)
        self._file: DurableFile | None = DurableFile.open(self._partial)

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._length

    def write(self, data: Any) -> int:
        """Called by the writer, also when it is thrown away unfinished: then nothing is written any more."""
        if self._file is not None:
            self._file.write(data)
        self._length += len(data)
        return len(data)

    def add(self, table: Any, rows: int) -> None:
        """Write a table of so many rows. Raises StorageError."""
        self.writer.write_table(table)
        self.rows += rows

    def finish(self) -> None:
        """Complete the file. Raises StorageError."""
        self.writer.close()
        file, self._file = self._file, None
        if file is None:
            raise RuntimeError("a part is finished once")
        try:
            file.fsync()
        finally:
            file.close()
        rename(self._partial, self._path)

    def drop(self) -> None:
        """Give it up; what there is of it is removed by the next start."""
        file, self._file = self._file, None
        if self.writer is not None:
            with suppress(Exception):  # it closes itself sooner or later, and nobody wants to hear of it
                self.writer.close()
        if file is not None:
            file.close()
