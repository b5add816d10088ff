"""What separates the fields of a CSV file: as its first records say."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from itertools import islice
from typing import Final

import msgspec

from promptmill.errors import InputError, Location
from promptmill.models import BadRow
from promptmill.sources._head import Peeked
from promptmill.sources._lines import UTF8_MARK, line_end, split_lines
from promptmill.sources._records import split_records

_CANDIDATES: Final = (",", ";", "\t", "|")
_SAMPLED: Final = 50
_GOOD: Final = 0.9
"""Share of the records that must have as many fields as the header, before a delimiter is taken that nobody named."""

_ENOUGH: Final = 0.5
"""Share of them that is enough for the usual one: the others are bad rows."""

_DIRECTIVE: Final = re.compile(rb'"?sep=([^"\r\n])"?[ \t,;]*', re.IGNORECASE)
"""The first line of files made for Excel."""


class Dialect(msgspec.Struct, frozen=True):
    """``has_directive``: the first line is `sep=;` and no header. ``found``: the delimiter is not the usual one."""

    delimiter: str
    has_directive: bool = False
    found: bool = False


def dialect_of(start: Peeked, name: str, usual: str, given: str | None) -> Dialect:
    """Find out the delimiter of a file; ``given`` is the job's, ``usual`` the one of files with this ending.

    Raises:
        InputError: nobody can tell (E0305).
    """
    end = line_end(start.head)
    first = start.head.removeprefix(UTF8_MARK).partition(end)[0]
    directive = _DIRECTIVE.fullmatch(first.removesuffix(b"\r"))
    if directive:
        return Dialect(given or directive[1].decode("latin-1"), True, given is None)
    if given is not None:
        return Dialect(given)
    candidates = (usual, *(one for one in _CANDIDATES if one != usual))
    fits = {one: _fit(start, name, end, one) for one in candidates}
    good = [one for one in candidates if fits[one] >= _GOOD]
    if fits[usual] >= _ENOUGH and (fits[usual] >= _GOOD or not good):
        return Dialect(usual)
    if len(good) == 1:
        return Dialect(good[0], found=True)
    header = first.decode("utf-8", "replace").strip()
    in_header = [one for one in candidates if one in header]
    if not in_header or (usual in in_header and not good):
        return Dialect(usual)
    raise InputError(
        f"nobody can tell what separates the fields of {name!r}: its header is {_shown(header)}",
        code="E0305",
        hint=f"say it in the input: `delimiter: {in_header[-1]!r}`, or {usual!r} when it is one column",
        location=Location(file=name, line=1),
    )


def _fit(start: Peeked, name: str, end: bytes, delimiter: str) -> float:
    """The share of records that have as many fields as the header; 0 when the header has one."""
    header, *records = list(islice(_field_counts(start, name, end, delimiter), _SAMPLED)) or [0]
    if header < 2:
        return 0.0
    return sum(one == header for one in records) / len(records) if records else 1.0


def _field_counts(start: Peeked, name: str, end: bytes, delimiter: str) -> Iterator[int]:
    """How many fields each record of the head has; 0 for one that cannot be read."""
    lines = list(split_lines(io.BytesIO(start.head), name, len(start.head), end))
    whole = lines if start.whole or start.head.endswith(end) else lines[:-1]
    for record in split_records(whole or lines, name, delimiter, len(start.head)):
        yield 0 if isinstance(record.fields, BadRow) else len(record.fields)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
