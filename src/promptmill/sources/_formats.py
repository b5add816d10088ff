"""Files of another format, named for what they are by their first bytes, whatever their names say."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Final, NamedTuple, NoReturn

from promptmill.errors import InputError, Location

_TO_LINES: Final = (
    "write it as JSON Lines: pandas.{reader}({name!r}).to_json('{stem}.jsonl', orient='records', lines=True)"
)
_EXPORT: Final = "write the table as CSV or JSON Lines, e.g. with {tool}, and name that file"
_SAVE_SHEET: Final = "save the sheet as CSV (UTF-8), and name that file"
_UNPACK: Final = "unpack it, and name the file inside; .gz and .zst are read as they are"


class _Kind(NamedTuple):
    magic: bytes
    what: str
    hint: str
    offset: int = 0


_KINDS: Final = (
    _Kind(b"PAR1", "a Parquet file", _TO_LINES.replace("{reader}", "read_parquet")),
    _Kind(b"ARROW1", "an Arrow file", _TO_LINES.replace("{reader}", "read_feather")),
    _Kind(b"FEA1", "a Feather file", _TO_LINES.replace("{reader}", "read_feather")),
    _Kind(b"ORC", "an ORC file", _TO_LINES.replace("{reader}", "read_orc")),
    _Kind(b"Obj\x01", "an Avro file", _EXPORT.replace("{tool}", "avro-tools tojson")),
    _Kind(b"SQLite format 3\0", "an SQLite database", _EXPORT.replace("{tool}", "sqlite3 -csv -header")),
    _Kind(b"DUCK", "a DuckDB database", _EXPORT.replace("{tool}", "COPY ... TO 'x.jsonl'"), 8),
    _Kind(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel or Word file", "save the table as CSV (UTF-8)"),
    _Kind(b"PK\x05\x06", "an empty zip archive", _UNPACK),
    _Kind(b"\x1f\x8b", "compressed twice", _UNPACK),
    _Kind(b"\x28\xb5\x2f\xfd", "compressed twice", _UNPACK),
    _Kind(b"BZh", "compressed with bzip2", _UNPACK),
    _Kind(b"\xfd7zXZ\0", "compressed with xz", _UNPACK),
    _Kind(b"\x04\x22\x4d\x18", "compressed with lz4", _UNPACK),
    _Kind(b"\x1f\x9d", "compressed with compress", _UNPACK),
    _Kind(b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", _UNPACK),
    _Kind(b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    _Kind(b"ustar", "a tar archive", _UNPACK, 257),
    _Kind(b"\x89HDF\r\n", "an HDF5 file", _TO_LINES.replace("{reader}", "read_hdf")),
    _Kind(b"\x93NUMPY", "a NumPy array", "write its rows as JSON Lines"),
    _Kind(b"%PDF-", "a PDF document", "write its text as JSON Lines, one object a prompt"),
    _Kind(b"version https://git-lfs", "a pointer of Git LFS, not the file itself", "fetch the file: git lfs pull"),
)
"""Sources: the specification of each format; ``file``'s magic database for the archives."""

_ZIP: Final = b"PK\x03\x04"
_EXCEL: Final = (".xlsx", ".xlsm", ".xlsb")
_PICKLE: Final = re.compile(rb"\x80[\x02-\x05](?:\x95|c|\}|\])")
_MARKUP: Final = re.compile(rb"\s*<(?:!doctype|html|\?xml)", re.IGNORECASE)
_UTF16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")
_SAMPLE: Final = 4096
_LEAST: Final = 64
"""Bytes that look like text in UTF-16 or like no text by chance where there are fewer."""


def refuse_other_formats(head: bytes, name: str, *, decoded: bool = False) -> None:
    """Look at the first bytes of a file; ``decoded`` when the job says what their encoding was.

    Raises:
        InputError: they are those of another format (E0308), or of UTF-16 or UTF-32 text (E0304).
    """
    for kind in _KINDS:
        if head.startswith(kind.magic, kind.offset):
            _refuse(name, kind.what, kind.hint)
    if head.startswith(_ZIP):
        if PurePath(name).suffix.lower() in _EXCEL or b"xl/" in head:
            _refuse(name, "an Excel workbook", _SAVE_SHEET)
        if b"opendocument.spreadsheet" in head[:_SAMPLE]:
            _refuse(name, "an OpenDocument spreadsheet", _SAVE_SHEET)
        if b"[Content_Types].xml" in head:
            _refuse(name, "an Office document", _SAVE_SHEET)
        _refuse(name, "a zip archive", _UNPACK)
    if _PICKLE.match(head):
        _refuse(name, "a Python pickle", "write its rows as JSON Lines")
    if _MARKUP.match(head):
        _refuse(name, "an HTML or XML page", "was it saved from a browser? fetch the file itself, as CSV or JSON Lines")
    if decoded:
        return
    if head.startswith(_UTF16_MARKS) or _looks_like_utf16(head):
        raise InputError(
            f"the input {name!r} is UTF-16 or UTF-32 text, and UTF-8 is expected",
            code="E0304",
            hint=f"add `encoding: utf-16` to the input, or convert it: iconv -f UTF-16 -t UTF-8 {name} > converted",
            location=Location(file=name),
        )
    sample = head[:_SAMPLE]
    if len(sample) > _LEAST and sample.count(0) * 10 > len(sample):
        _refuse(name, "binary data, not text", "name a file of JSON Lines or CSV")


def _looks_like_utf16(head: bytes) -> bool:
    """Whether nearly every second byte is NUL, on one side: text of ASCII characters without its mark, in UTF-16; in
    UTF-32 half of the others are too."""
    sample = head[:_SAMPLE]
    if len(sample) < _LEAST // 2:
        return False
    even, odd = sample[::2].count(0) / len(sample[::2]), sample[1::2].count(0) / len(sample[1::2])
    return min(even, odd) < 0.55 and max(even, odd) > 0.6


def _refuse(name: str, what: str, hint: str) -> NoReturn:
    raise InputError(
        f"the input {name!r} is {what}; JSON Lines, a JSON array or CSV are read",
        code="E0308",
        hint=hint.format(name=name, stem=PurePath(name).stem),
        location=Location(file=name),
    )
