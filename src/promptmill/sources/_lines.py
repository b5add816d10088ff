"""Bytes into lines: split on one byte and nothing else, with memory bounded whatever comes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from promptmill.errors import InputError, Location
from promptmill.models import BadRow, Origin
from promptmill.sources._bytes import CHUNK_BYTES, ByteStream
from promptmill.sources._encodings import refuse_other_encodings

MAX_LINE_BYTES: Final = 8 * 1024 * 1024
"""Longest line read by default: fault D2 of the reliability notes."""

UTF8_MARK: Final = b"\xef\xbb\xbf"
_UTF16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")


class Line(msgspec.Struct, frozen=True):
    """One line without its newline byte. ``number`` is 1-based, ``offset`` the byte offset of its start.

    ``data`` is None when the line is longer than allowed; ``length`` is its length in bytes all the same.
    """

    data: bytes | None
    number: int
    offset: int
    length: int


def line_end(head: bytes) -> bytes:
    """What ends the lines of a file that begins with ``head``: a carriage return where there is no newline."""
    return b"\r" if b"\r" in head and b"\n" not in head else b"\n"


def split_lines(stream: ByteStream, name: str, limit: int = MAX_LINE_BYTES, end_byte: bytes = b"\n") -> Iterator[Line]:
    """The lines of ``stream``. A UTF-8 byte order mark at the start is dropped (offsets count it).

    Raises:
        InputError: the stream is UTF-16 or UTF-32 (E0304).
    """
    number, offset = 1, 0
    kept: list[bytes] = []  # the pieces of a line still open, no more than the limit
    length = 0  # of the open line so far, kept or not
    chunk = stream.read(CHUNK_BYTES)
    while 0 < len(chunk) < len(UTF8_MARK) and (more := stream.read(CHUNK_BYTES)):
        chunk += more
    if chunk.startswith(_UTF16_MARKS):
        raise InputError(
            f"the input {name!r} is UTF-16 or UTF-32 text; only UTF-8 is read",
            code="E0304",
            hint=f"add `encoding: utf-16` to the input, or convert it: iconv -f UTF-16 -t UTF-8 {name} > converted",
            location=Location(file=name),
        )
    if chunk.startswith(UTF8_MARK):
        chunk, offset = chunk[len(UTF8_MARK) :], len(UTF8_MARK)
    while chunk:
        start = 0
        while (end := chunk.find(end_byte, start)) >= 0:
            length += end - start
            kept.append(chunk[start:end])
            yield Line(b"".join(kept) if length <= limit else None, number, offset, length)
            number, offset = number + 1, offset + length + 1
            kept, length, start = [], 0, end + 1
        length += len(chunk) - start
        kept = [*kept, chunk[start:]] if length <= limit else []
        chunk = stream.read(CHUNK_BYTES)
    if length:
        yield Line(b"".join(kept) if length <= limit else None, number, offset, length)


def too_long(line: Line, name: str, limit: int) -> BadRow:
    """The row that stands for a line over the limit."""
    return BadRow(
        "line_too_long",
        f"the line has {line.length} bytes, more than the {limit} allowed",
        Origin(name, line.number, line.offset),
    )


def not_utf8(error: UnicodeDecodeError, line: Line, name: str) -> BadRow:
    """The row that stands for a line with bytes that are not UTF-8.

    Raises:
        InputError: the whole file is in another encoding (E0304).
    """
    refuse_other_encodings(error, name, line.number)
    return BadRow(
        "input_encoding",
        f"not UTF-8: byte 0x{error.object[error.start]:02x} at byte {line.offset + error.start} of the file",
        Origin(name, line.number, line.offset),
    )
