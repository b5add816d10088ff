"""Lines into the records of a CSV file (RFC 4180), with physical lines and byte offsets kept.

The standard library's reader has one limit on the length of a field for the whole process and counts no bytes, and an
open quote makes it take in the rest of the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from promptmill.models import BadRow, Origin
from promptmill.sources._lines import Line, not_utf8

_QUOTE: Final = re.compile('"')
_SPACED_QUOTE: Final = re.compile(' *"')
"""Some programs write a space behind each comma: one before a quote is no part of the text."""


class Record(msgspec.Struct, frozen=True):
    """One record: its fields, or why it has none; where it starts, and its length in bytes."""

    fields: list[str] | BadRow
    origin: Origin
    length: int


def split_records(lines: Iterable[Line], name: str, delimiter: str, limit: int) -> Iterator[Record]:
    """The records of a file. A record over ``limit`` bytes is read to its end and not kept."""
    building: _Building | None = None
    for line in lines:
        if building is None:
            if not line.length or line.data == b"\r":
                continue
            building = _Building(line, name, delimiter, limit)
        building.take(line)
        if not building.quoted:
            yield building.record()
            building = None
    if building is not None:
        yield building.record()


class _Building:
    """A record while its lines come in."""

    def __init__(self, first: Line, name: str, delimiter: str, limit: int) -> None:
        self.quoted = False  # inside a quoted field, so that the record goes on on the next line
        self._origin = Origin(name, first.number, first.offset)
        self._name = name
        self._delimiter = delimiter
        self._limit = limit
        self._opening = _QUOTE if delimiter == " " else _SPACED_QUOTE
        self._fields: list[str] = []
        self._parts: list[str] = []  # of the quoted field that is open
        self._length = 0
        self._last = first.number
        self._bad: BadRow | None = None

    def take(self, line: Line) -> None:
        """Take in one more line."""
        self._length += line.length + 1
        self._last = line.number
        if line.data is None or self._length - 1 > self._limit:
            self._fail("line_too_long", f"has more than the {self._limit} bytes allowed")
            self._fields, self._parts = [], []
        if line.data is None:
            self.quoted = False  # its quotes were not seen; the next line is taken for a new record
            return
        try:
            text = line.data.decode("utf-8")
        except UnicodeDecodeError as error:
            self._bad = self._bad or msgspec.structs.replace(not_utf8(error, line, self._name), origin=self._origin)
            text = line.data.decode("utf-8", "replace")
        self._scan(text)
        if self._bad is not None:
            self._fields, self._parts = [], []

    def record(self) -> Record:
        if self.quoted:
            self._fail("input_csv", "has a quote that is not closed")
        return Record(self._bad or self._fields, self._origin, self._length)

    def _scan(self, text: str) -> None:
        """Go on with the text of a line. The line break belongs to the text when a quoted field is open at its end."""
        line = text.removesuffix("\r")
        if not self.quoted and '"' not in line:
            self._fields = line.split(self._delimiter)
            self._refuse_returns(line)
            return
        at = 0
        while at <= len(line):
            if self.quoted:
                end = line.find('"', at)
                if end < 0:
                    self._parts.append(text[at:] + "\n")
                    return
                self._parts.append(line[at:end])
                at = self._after_quote(line, end + 1)
            elif opening := self._opening.match(line, at):
                self.quoted = True
                at = opening.end()
            else:
                end = line.find(self._delimiter, at)
                end = len(line) if end < 0 else end
                self._fields.append(line[at:end])
                self._refuse_returns(line[at:end])
                at = end + 1
        if self.quoted:
            self._parts.append(text[len(line) :] + "\n")

    def _refuse_returns(self, text: str) -> None:
        """A carriage return outside quotes ends a line in files of old Macs: two rows may be one here."""
        if "\r" in text:
            self._fail("input_csv", "has a carriage return outside quotes: the lines of the file end in different ways")

    def _after_quote(self, line: str, at: int) -> int:
        """Read on behind a quote inside a quoted field; returns where the next piece starts."""
        if line.startswith('"', at):
            self._parts.append('"')
            return at + 1
        self.quoted = False
        self._fields.append("".join(self._parts))
        self._parts = []
        if self._delimiter != " ":
            at += len(line[at:]) - len(line[at:].lstrip(" "))
        if at < len(line) and not line.startswith(self._delimiter, at):
            self._fail("input_csv", f"has text behind a closing quote: {line[at : at + 20]!r}")
            return len(line) + 1
        return at + 1

    def _fail(self, code: str, what: str) -> None:
        lines = "the record" if self._last == self._origin.line else f"the record up to line {self._last}"
        self._bad = self._bad or BadRow(code, f"{lines} {what}", self._origin)
