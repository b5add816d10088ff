"""Text in other encodings than UTF-8: read where the job says which, and refused where a file plainly is in one."""

from __future__ import annotations

import codecs
import re
from typing import Final

from promptmill.errors import InputError, Location
from promptmill.sources._bytes import CHUNK_BYTES, ByteStream

_CHARACTER: Final = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
"""A character of several bytes, roughly as UTF-8 has them."""

_RARE: Final = re.compile(rb"[\x00\xfe\xff]")
"""Bytes that text in 8-bit encodings hardly has, and damage does."""

_SHOWN: Final = 20


class Recoded:
    """A stream of text in some encoding, read as UTF-8."""

    def __init__(self, stream: ByteStream, encoding: str, name: str) -> None:
        self._stream = stream
        self._encoding = encoding
        self._name = name
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._ended = False

    def read(self, _size: int, /) -> bytes:
        """Any number of bytes. Raises InputError for what is not text in this encoding (E0304)."""
        while not self._ended:
            data = self._stream.read(CHUNK_BYTES)
            self._ended = not data
            try:
                text = self._decoder.decode(data, final=self._ended)
                if text:
                    return text.encode()
            except UnicodeError as error:
                raise InputError(
                    f"the input {self._name!r} is not {self._encoding} text: {error}",
                    code="E0304",
                    hint="correct `encoding`, or leave it out for UTF-8",
                    location=Location(file=self._name),
                ) from error
        return b""

    def close(self) -> None:
        """Whoever opened the stream closes it."""


def refuse_other_encodings(error: UnicodeDecodeError, name: str, line: int) -> None:
    """Look at a line that is not UTF-8: is it damaged, or is the file in another encoding?

    Raises:
        InputError: nothing in the line speaks for UTF-8 (E0304).
    """
    data = error.object
    if _CHARACTER.search(data) or _RARE.search(data):
        return
    before = data[max(error.start - _SHOWN, 0) : error.start].decode("ascii", "replace")
    shown = before + data[error.start : error.start + _SHOWN].decode("cp1252", "replace")
    raise InputError(
        f"the input {name!r} is not UTF-8 text: byte 0x{data[error.start]:02x} in line {line}, "
        f"which would be {shown!r} in cp1252",
        code="E0304",
        hint="say what it is, e.g. `encoding: cp1252` (Windows) or `encoding: mac-roman` in the input, or convert it: "
        f"iconv -f CP1252 -t UTF-8 {name} > converted",
        location=Location(file=name, line=line),
    )
