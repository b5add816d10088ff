"""JSON values one after the other, over any number of lines: an array of rows, pretty-printed objects, objects with
commas between them. Memory is bounded whatever comes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Literal

from promptmill import jsontext
from promptmill.errors import InputError, Location
from promptmill.sources._bytes import CHUNK_BYTES, ByteStream
from promptmill.sources._lines import UTF8_MARK, Line, line_end

_OUTSIDE: Final = re.compile(rb'["\[\]{}]')
_INSIDE: Final = re.compile(rb'["\\]')
_BETWEEN: Final = re.compile(rb"[^\s,]")
_ARRAY: Final = re.compile(rb"\[\s*(?:\{|\]\s*\Z)")
"""An array of objects, or one with nothing in it."""

_SCALAR_END: Final = re.compile(rb"[\s,\]]")


def holds_values(head: bytes, *, whole: bool) -> bool:
    """Whether a file is to be read value by value rather than line by line: it is an array, or its first value is an
    object that is not all there is in its line."""
    text = head.removeprefix(UTF8_MARK).lstrip()
    end = line_end(text)
    line = text.partition(end)[0]
    if _ARRAY.match(text):
        # An array in a line of its own, before others, is a line that is no row.
        return not _is_json(line) or not text[len(line) :].strip()
    if not text.startswith(b"{") or _is_json(line):
        return False
    first = next(Scanner("", len(text), end).feed(text), None)
    if first is None or first.data is None or not _is_json(first.data):
        return False
    rest = text[first.offset + first.length :].lstrip()
    return rest.startswith(b",") or (end in first.data and (rest.startswith(b"{") or (not rest and whole)))


def _is_json(data: bytes) -> bool:
    try:
        jsontext.decode(data)
    except jsontext.BadJSON:
        return False
    return True


def split_values(stream: ByteStream, name: str, limit: int, end: bytes = b"\n") -> Iterator[Line]:
    """The values of ``stream``, each as a Line: ``number`` is the line it begins in; ``end`` ends lines.

    Raises:
        InputError: it ends in the middle of a value, or there is something behind the array (E0309).
    """
    scanner = Scanner(name, limit, end)
    while chunk := stream.read(CHUNK_BYTES):
        yield from scanner.feed(chunk)
    yield from scanner.finish()


class Scanner:
    """Finds where values begin and end; whether they are right is for the parser to say. ``end`` ends a line."""

    def __init__(self, name: str, limit: int, end: bytes) -> None:
        self._name = name
        self._limit = limit
        self._end = end
        self._offset = 0  # of the chunk
        self._line = 1
        self._counted = 0  # place in the chunk up to which lines are counted
        self._in_array: bool | None = None  # None before the first value
        self._closed = False
        self._mode: Literal["container", "string", "scalar"] | None = None  # what is open
        self._depth = 0
        self._quoted = False
        self._skip = False  # the next byte is escaped
        self._kept: list[bytes] = []
        self._length = 0
        self._began = (1, 0)

    def feed(self, chunk: bytes) -> Iterator[Line]:
        """Take in more bytes."""
        at = len(UTF8_MARK) if not self._offset and chunk.startswith(UTF8_MARK) else 0
        self._counted = 0
        while at < len(chunk):
            if self._mode is None:
                at = self._between(chunk, at)
                continue
            begin = at
            at, has_ended = self._inside(chunk, at)
            self._keep(chunk[begin:at])
            if has_ended:
                yield self._value()
        self._count(chunk, len(chunk))
        self._offset += len(chunk)

    def finish(self) -> Iterator[Line]:
        """The last value. Raises InputError when it, or the array, has no end (E0309)."""
        if self._mode == "scalar":
            yield self._value()
        elif self._mode is not None:
            raise self._broken("the file ends in the middle of the JSON value that begins here", self._began[0])
        if self._in_array and not self._closed:
            raise self._broken("the JSON array has no end: the file is cut short", self._line)

    def _between(self, chunk: bytes, at: int) -> int:
        """Go on to the next value; returns where it begins, or the end."""
        found = _BETWEEN.search(chunk, at)
        if found is None:
            return len(chunk)
        at, char = found.start(), found[0]
        self._count(chunk, at)
        if self._closed:
            raise self._broken("there is something behind the end of the JSON array", self._line)
        if char == b"[" and self._in_array is None:
            self._in_array = True
            return at + 1
        if char == b"]" and self._in_array:
            self._closed = True
            return at + 1
        self._in_array = bool(self._in_array)
        self._began = (self._line, self._offset + at)
        self._mode = "container" if char in b"{[" else "string" if char == b'"' else "scalar"
        return at

    def _inside(self, chunk: bytes, at: int) -> tuple[int, bool]:
        """Go on in a value; returns where it ends and True, or the end of the chunk and False."""
        if self._mode == "scalar":
            ends = _SCALAR_END.search(chunk, at + (self._length == 0))
            return (ends.start(), True) if ends else (len(chunk), False)
        at += self._skip
        self._skip = False
        while found := (_INSIDE if self._quoted else _OUTSIDE).search(chunk, at):
            at = found.end()
            if found[0] == b"\\":
                at += 1
                self._skip = at > len(chunk)
            elif self._is_end(found[0]):
                return at, True
        return len(chunk), False

    def _is_end(self, char: bytes) -> bool:
        """Take note of a quote or a bracket; whether the value ends with it."""
        if char == b'"':
            self._quoted = not self._quoted
        else:
            self._depth += 1 if char in b"{[" else -1
        return self._depth <= 0 and not self._quoted

    def _keep(self, piece: bytes) -> None:
        self._length += len(piece)
        self._kept = [*self._kept, piece] if self._length <= self._limit else []

    def _value(self) -> Line:
        data = b"".join(self._kept) if self._length <= self._limit else None
        line = Line(data, self._began[0], self._began[1], self._length)
        self._kept, self._length, self._depth, self._mode = [], 0, 0, None
        return line

    def _count(self, chunk: bytes, to: int) -> None:
        self._line += chunk.count(self._end, self._counted, to)
        self._counted = to

    def _broken(self, what: str, line: int) -> InputError:
        return InputError(
            f"the input {self._name!r} cannot be read: {what}",
            code="E0309",
            hint="correct the file, or write it as JSON Lines: one object a line",
            location=Location(file=self._name, line=line),
        )
