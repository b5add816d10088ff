"""The files of the journal's database before SQLite, which opens them by their paths, is let at them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from promptmill._statepaths import foreign, is_file, open_file
from promptmill.errors import StorageError
from promptmill.files import open_to_read

_BESIDE: Final = ("-journal", "-wal", "-shm")

_MAGIC: Final = bytes.fromhex("d9d505f920a163d7")
"""What a rollback journal ends with that names another file, which SQLite would delete after rolling back. Source: the
SQLite file format, section "The rollback journal". Ours name none: no transaction is about two databases."""


def make_database(path: Path) -> None:
    """Make the file, empty and private to this user, when it is not there. SQLite gives its other files the mode of
    this one. Raises StorageError (E0618, E0640)."""
    refuse_foreign_database(path)
    try:
        os.close(open_file(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)))
    except OSError as error:
        raise StorageError(
            f"the journal {str(path)!r} cannot be opened: {error.strerror}",
            code="E0640",
            hint="see to the disk, then run the same command again: what was committed is kept",
        ) from error


def refuse_foreign_database(path: Path) -> None:
    """Raise StorageError (E0618) when the database or a file beside it is a link, no regular file, or not ours."""
    for one in (path, *(path.with_name(path.name + suffix) for suffix in _BESIDE)):
        is_file(one)
    rollback = path.with_name(f"{path.name}-journal")
    if is_file(rollback) and _ends_with_a_name(rollback):
        raise foreign(rollback, "names another file, which SQLite would delete")


def _ends_with_a_name(path: Path) -> bool:
    with open_to_read(path) as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(size - len(_MAGIC), 0))
        return file.read() == _MAGIC
