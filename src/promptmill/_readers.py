"""Who may read the input of a job, and so its answers: a file nobody else may read gets no answers that others can."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from promptmill.errors import InputError
from promptmill.sources._bytes import STDIN, find_files

_OTHERS: Final = 0o066


def shut_out_others(paths: Sequence[str], base_dir: Path) -> None:
    """From now on this process makes no file that more people can read or write than those input files.

    By its umask, so that it holds for whatever makes files: sinks, databases, plugins.
    """
    refused = _OTHERS & ~_common_mode(paths, base_dir)
    before = os.umask(0o077)
    os.umask(before | refused)


def _common_mode(paths: Sequence[str], base_dir: Path) -> int:
    mode = _OTHERS
    # What cannot be found or looked at is for those to say who read it.
    with suppress(OSError, InputError, ValueError, RuntimeError):
        if STDIN in paths and stat.S_ISREG((status := os.fstat(0)).st_mode):
            mode &= status.st_mode
        for file in find_files([path for path in paths if path != STDIN], base_dir):
            mode &= file.path.stat().st_mode
    return mode
