"""Paths below a state directory, which may have come with a stranger's files or lie where others can write.

Such a path is walked from the state directory on, folder by folder, each opened relative to the one above and never
through a link, and what is opened at its end has to be what this program makes: a regular file or a folder, of this
user, under one name. Anything else is refused. Other paths are the user's own and are taken as they are.

Windows opens nothing relative to a folder: there each step of the path is looked at before it is used.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Literal

from promptmill.errors import StorageError

STATE_NAME: Final = ".promptmill"
"""The name of every state directory. What is below one is guarded."""

FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600

_RELATIVE: Final = (
    hasattr(os, "O_NOFOLLOW") and {os.open, os.mkdir, os.unlink, os.rename, os.stat} <= os.supports_dir_fd
)
_NOT_THROUGH_LINKS: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
"""Not blocking, or a pipe nobody reads would hold us up for ever."""

_FOLDER: Final = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
_OTHER_KIND: Final = frozenset({errno.ELOOP, errno.EMLINK, errno.ENOTDIR, errno.EISDIR, errno.ENXIO})
"""What a system says of a link, a pipe or a folder that was to be opened as something else."""


Kind = Literal["folder", "regular file"]

_KINDS: Final[dict[Kind, int]] = {"folder": stat.S_IFDIR, "regular file": stat.S_IFREG}


def is_state(path: Path) -> bool:
    """Whether ``path`` is a state directory or below one."""
    return STATE_NAME in path.parts


def foreign(path: Path, what: str) -> StorageError:
    """The refusal of a path below a state directory that is not what this program makes."""
    return StorageError(
        f"{str(path)!r} {what}: it is not of promptmill's making, and nothing there is read, written or deleted",
        code="E0618",
        hint=f"if the {STATE_NAME} folder came with somebody's files, delete it; a run begins with one of its own",
    )


@contextmanager
def reached(path: Path) -> Iterator[tuple[str, int | None]]:
    """The name and the ``dir_fd`` by which functions of ``os`` reach ``path``.

    Raises:
        StorageError: a folder on the way is a link, something else, or somebody else's (E0618).
        OSError: the system refuses; a folder on the way may not be there.
    """
    if not is_state(path):
        yield str(path), None
        return
    parts = path.parts
    # The last one counts: a state directory has none inside.
    top = len(parts) - 1 - parts[::-1].index(STATE_NAME)
    if ".." in parts[top:]:
        raise foreign(path, "leads out of its state directory")
    on_the_way = [Path(*parts[: length + 1]) for length in range(top, len(parts) - 1)]
    if not _RELATIVE:
        for one in on_the_way:
            _check(one, one.lstat(), None, "folder")
        yield str(path), None
        return
    folder = os.open(Path(*parts[:top]), _FOLDER)
    try:
        for one in on_the_way:
            inner = _opened_folder(one, folder)
            os.close(folder)
            folder = inner
        yield parts[-1], folder
    finally:
        os.close(folder)


def open_file(path: Path, flags: int) -> int:
    """A descriptor of a file. Below a state directory it is private to this user from the moment it is made.

    Raises:
        StorageError: it is below a state directory and not a file of ours (E0618).
        OSError: the system refuses.
    """
    with reached(path) as (name, folder):
        if not is_state(path):
            return os.open(name, flags, 0o666)
        if not _RELATIVE:
            with suppress(FileNotFoundError):
                _check(path, path.lstat(), None, "regular file")
        try:
            descriptor = os.open(name, flags | _NOT_THROUGH_LINKS, FILE_MODE, dir_fd=folder)
        except OSError as error:
            if error.errno in _OTHER_KIND:
                _check(path, os.stat(name, dir_fd=folder, follow_symlinks=False), folder, "regular file")
            raise
        try:
            _check(path, os.fstat(descriptor), folder, "regular file")
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


def open_folder(path: Path) -> int:
    """A descriptor of a folder. Raises like :func:`open_file`."""
    if not is_state(path):
        return os.open(path, os.O_RDONLY)
    with reached(path) as (_, folder):
        return _opened_folder(path, folder)


def make_folder(path: Path) -> None:
    """Make a folder, private to this user if it is below a state directory. Raises like :func:`open_file`."""
    with reached(path) as (name, folder):
        os.mkdir(name, FOLDER_MODE if is_state(path) else 0o777, dir_fd=folder)


def is_folder(path: Path) -> bool:
    """Whether there is a folder. Raises StorageError when there is something below a state directory that is none, or
    is not ours."""
    if not is_state(path):
        return path.is_dir()
    try:
        if not _RELATIVE:
            with reached(path):
                _check(path, path.lstat(), None, "folder")
            return True
        descriptor = open_folder(path)
    except FileNotFoundError:
        return False
    os.close(descriptor)
    return True


def is_file(path: Path) -> bool:
    """Whether there is a file. Raises StorageError when there is something below a state directory that is none, or is
    not ours."""
    if not is_state(path):
        return path.is_file()
    try:
        with reached(path) as (name, folder):
            _check(path, os.stat(name, dir_fd=folder, follow_symlinks=False), folder, "regular file")
    except FileNotFoundError:
        return False
    return True


def names_in(path: Path) -> list[str]:
    """The names in a folder, sorted; none when it is not there. Raises like :func:`open_file`."""
    try:
        if not is_state(path) or not _RELATIVE:
            with reached(path):
                return sorted(os.listdir(path))  # noqa: PTH208 - as below, by the system's own name
        descriptor = open_folder(path)
    except FileNotFoundError:
        return []
    try:
        return sorted(os.listdir(descriptor))  # noqa: PTH208 - a descriptor is no path
    finally:
        os.close(descriptor)


def _opened_folder(path: Path, above: int | None) -> int:
    try:
        descriptor = os.open(path.name, _FOLDER | _NOT_THROUGH_LINKS, dir_fd=above)
    except OSError as error:
        if error.errno in _OTHER_KIND:
            _check(path, os.stat(path.name, dir_fd=above, follow_symlinks=False), above, "folder")
        raise
    try:
        status = os.fstat(descriptor)
        _check(path, status, above, "folder")
        if status.st_mode & 0o077:  # an older version made it, or a checkout did
            with suppress(OSError):
                os.fchmod(descriptor, FOLDER_MODE)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check(path: Path, status: os.stat_result, above: int | None, kind: Kind) -> None:
    """Refuse what is not of this kind and ours. ``above`` is the folder it is in."""
    reparsed = getattr(status, "st_file_attributes", 0) & getattr(stat, "FILE_ATTRIBUTE_REPARSE_POINT", 0)
    if stat.S_ISLNK(status.st_mode) or reparsed:
        raise foreign(path, "is a link")
    if stat.S_IFMT(status.st_mode) != _KINDS[kind]:
        raise foreign(path, f"is not a {kind}")
    if kind == "regular file" and status.st_nlink > 1:
        raise foreign(path, "has another name elsewhere")
    if above is not None and status.st_uid not in (os.geteuid(), _uid_of_what_we_make(above, status)):
        raise foreign(path, f"belongs to user {status.st_uid}")


def _uid_of_what_we_make(folder: int, status: os.stat_result) -> int:
    """The owner of a file that is made in ``folder``: where a file system gives all files to one user, that is ours."""
    if status.st_uid == os.geteuid():
        return status.st_uid
    name = f"probe-{secrets.token_hex(8)}"
    try:
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE, dir_fd=folder)
    except OSError:
        return os.geteuid()
    try:
        return os.fstat(descriptor).st_uid
    finally:
        os.close(descriptor)
        os.unlink(name, dir_fd=folder)
