"""Whether a target could be written, found out without touching it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from promptmill.errors import StorageError


def _not_in_memory(path: str) -> str:
    if path.startswith((":", "file:")):
        raise ValueError(f"{path!r} is no file, and what is in memory is gone when the run is over: name a file")
    return path


FilePath = Annotated[str, AfterValidator(_not_in_memory)]
"""The path of a database, as an option. Not ``:memory:``, which drivers take for no file."""


def refuse_unwritable(path: Path, *, directory: bool = False) -> None:
    """Look at a file, or a directory, that is to be written or made, and at the directories above it.

    Raises:
        StorageError: it is of the other kind (E0612), or the system would refuse (E0601).
    """
    if path.exists() and path.is_dir() != directory:
        wanted, is_one = ("a directory", "a file") if directory else ("a file", "a directory")
        raise StorageError(
            f"the output {str(path)!r} is {is_one}, and {wanted} is to be written there",
            code="E0612",
            hint="name another path in the job's sinks",
        )
    place = path if path.exists() else next((one for one in path.absolute().parents if one.exists()), path)
    if not os.access(place, os.W_OK) or (place != path and not place.is_dir()):
        raise StorageError(
            f"the output {str(path)!r} cannot be written: {str(place)!r} is not a directory you may write to"
            if place != path
            else f"the output {str(path)!r} cannot be written: permission denied",
            code="E0601",
            hint="check the permissions, or name another path in the job's sinks",
        )
