"""Where results go: the sink an ending stands for, and outputs that the job would read as its own input."""

from __future__ import annotations

import fnmatch
import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

SINK_ENDINGS: Final = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
    ".db": "sqlite",
    ".sqlite": "sqlite",
    ".sqlite3": "sqlite",
    ".duckdb": "duckdb",
}


def sink_for(path: str) -> str | None:
    """The sink for a path, by its ending; jsonl where it has none, None where nobody knows it."""
    ending = Path(path.lower()).suffix
    return SINK_ENDINGS.get(ending) if ending else "jsonl"


def known_endings() -> str:
    """For messages."""
    return ", ".join(SINK_ENDINGS)


def input_that_takes_in(output: Path, inputs: Iterable[str], base_dir: Path) -> str | None:
    """The name or pattern of an input that ``output``, a file or a directory, is or would be part of; None when there
    is none."""
    target = _parts(output)
    for given in inputs:
        path = base_dir / Path(given).expanduser()
        if _is_same(path, output) or _matches(_parts(path), target):
            return given
        if output.is_dir() and path.resolve().is_relative_to(output.resolve()):
            return given
    return None


def _is_same(path: Path, output: Path) -> bool:
    try:
        return path.samefile(output)
    except OSError:
        return False


def _parts(path: Path) -> Sequence[str]:
    # The pattern is no path that can be resolved; links in what comes before its first magic part are.
    parts = Path(os.path.normpath(path.absolute())).parts
    magic = next((at for at, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return (*Path(*parts[:magic]).resolve().parts, *parts[magic:])


def _matches(pattern: Sequence[str], names: Sequence[str]) -> bool:
    """As ``glob`` does it: ``**`` is any number of directories, and a star matches no hidden name."""
    if not pattern:
        return not names
    first, *rest = pattern
    if first == "**":
        return _matches(rest, names) or (bool(names) and not names[0].startswith(".") and _matches(pattern, names[1:]))
    if not names or (names[0].startswith(".") and not first.startswith(".")):
        return False
    return (first == names[0] or fnmatch.fnmatch(names[0], first)) and _matches(rest, names[1:])
