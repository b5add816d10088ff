"""Sink ``csv``: one row a result, for spreadsheets and data frames."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import Field

from promptmill import jsontext
from promptmill.hookspecs import hookimpl
from promptmill.models import Result
from promptmill.options import BuildContext, SinkOptions
from promptmill.sinks._altered import SURROGATE
from promptmill.sinks._appending import AppendingSink
from promptmill.sinks._columns import COLUMNS

if TYPE_CHECKING:
    from promptmill.options import Register

# What makes a spreadsheet take a cell for a formula (OWASP, CSV injection), also in full width. Line breaks are among
# them since some programs drop leading ones; ' is, so that what was changed can be told from what was not.
_FORMULA: Final = re.compile("[=+\\-@\t\r\n'\uff1d\uff0b\uff0d\uff20]")
_NUMBER: Final = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
_MARKED: Final = "texts that a spreadsheet would take for a formula get a ' before them, unless `excel_safe: false`"
_QUOTED: Final = re.compile('[",\r\n]')

_UTF8_MARK: Final = b"\xef\xbb\xbf"

SAFE_HEADER: Final = ",".join(column.name for column in COLUMNS).encode()
"""The first line of a file whose texts are disarmed."""

PLAIN_HEADER: Final = b'"id"' + SAFE_HEADER.removeprefix(b"id")
"""The first line of one whose texts are as they came: the same names, told apart by quotes, which readers take off. Our
csv source goes by it."""


class CsvSink(AppendingSink):
    """The fields of the result record, flattened; ``meta`` is JSON. Rows end with a newline, the text is UTF-8.

    Unknown values are empty. An empty text is written ``""`` and so differs from no text at all.

    Args:
        excel_safe: put ``'`` before texts that a spreadsheet would take for a formula, and before those that start
            with ``'`` themselves. This changes the data: a reader takes the first ``'`` of a cell away again.
            Numbers are left alone. Our own source does so for files whose header says that they are written this way.
        bom: begin with a byte order mark, by which Excel knows that the file is UTF-8.
    """

    header = SAFE_HEADER + b"\n"

    def __init__(self, path: Path, *, excel_safe: bool = True, bom: bool = False) -> None:
        super().__init__(path)
        header = self.header if excel_safe else PLAIN_HEADER + b"\n"
        self.header = _UTF8_MARK + header if bom else header
        self._excel_safe = excel_safe

    def encode(self, results: Sequence[Result]) -> bytes:
        text = "".join([self._row(column.read(result) for column in COLUMNS) for result in results])
        sound: str = jsontext.without_surrogates(text)
        if sound is not text:
            self.altered(SURROGATE)
        return sound.encode()

    def _row(self, values: Iterable[object]) -> str:
        return ",".join([self._cell(value) for value in values]) + "\n"

    def _cell(self, value: object) -> str:
        if value is None:
            return ""
        if not isinstance(value, str):
            return str(value).lower()
        text = value
        if self._excel_safe and _FORMULA.match(value) and not _NUMBER.fullmatch(value):
            self.altered(_MARKED)
            text = "'" + value
        if not text or _QUOTED.search(text) or text != text.strip():
            return '"' + text.replace('"', '""') + '"'
        return text


class CsvSinkOptions(SinkOptions):
    path: str = Field(min_length=1, description="The file to write, relative to the job file.")
    excel_safe: bool = Field(True, description="Put ' before texts that a spreadsheet would take for a formula.")
    bom: bool = Field(False, description="Begin with a byte order mark, so that Excel takes the file for UTF-8.")

    def build(self, context: BuildContext) -> CsvSink:
        return CsvSink(context.base_dir / self.path, excel_safe=self.excel_safe, bom=self.bom)


@hookimpl
def register_sink(register: Register) -> None:
    register("csv", CsvSinkOptions)
