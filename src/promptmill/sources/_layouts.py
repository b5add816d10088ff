"""CSV that goes by the name of JSON Lines, and the other way round."""

from __future__ import annotations

import re
from typing import Final

from promptmill import jsontext
from promptmill.errors import InputError, Location
from promptmill.sources._lines import UTF8_MARK

_JSON_ROW: Final = re.compile(rb'\s*(?:\[\s*)?\{\s*"(?:[^"\\]|\\.)*"\s*:')
"""The beginning of an object with its first key, in an array or not: no header of a CSV file."""

_SEPARATOR: Final = re.compile(r"[,;\t|]")
_LINES: Final = 50


def refuse_json(head: bytes, name: str) -> None:
    """Raise InputError when a file that is to be CSV begins with a JSON object (E0308)."""
    if _JSON_ROW.match(head.removeprefix(UTF8_MARK)):
        raise InputError(
            f"the input {name!r} is JSON, and CSV is expected",
            code="E0308",
            hint="add `use: jsonl` to the input, or give the file the ending .jsonl",
            location=Location(file=name, line=1),
        )


def refuse_plain_text(head: bytes, name: str, end: bytes) -> None:
    """Raise InputError when none of the first lines of a file that is to be JSON Lines is JSON, or meant to be
    (E0308)."""
    lines = [line for line in head.removeprefix(UTF8_MARK).split(end, _LINES)[:_LINES] if line.strip()]
    if len(lines) < 2 or any(map(_is_meant, lines)):
        return
    first = lines[0].decode("utf-8", "replace").strip()
    separator = _SEPARATOR.search(first)
    raise InputError(
        f"the input {name!r} is not JSON Lines: its first line is {first[:80]!r}",
        code="E0308",
        hint="add `use: csv` to the input, or give the file the ending .csv"
        if separator
        else 'write one JSON object a line, such as {"prompt": "..."}',
        location=Location(file=name, line=1),
    )


def _is_meant(line: bytes) -> bool:
    if line.lstrip()[:1] in (b"{", b"["):
        return True
    try:
        jsontext.decode(line)
    except jsontext.BadJSON:
        return False
    return True
