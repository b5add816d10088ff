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
_QUOTED: Final = re.compile('[",\r\n]')


class CsvSink(AppendingSink):
    """The fields of the result record, flattened; ``meta`` is JSON. Rows end with a newline, the text is UTF-8.

    Unknown values are empty. An empty text is written ``""`` and so differs from no text at all.

    Args:
        excel_safe: put ``'`` before texts that a spreadsheet would take for a formula, and before those that start
            with ``'`` themselves. This changes the data: a reader takes the first ``'`` of a cell away again.
            Numbers are left alone.
    """

    header = (",".join(column.name for column in COLUMNS) + "\n").encode()

    def __init__(self, path: Path, *, excel_safe: bool = True) -> None:
        super().__init__(path)
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
        unsafe = self._excel_safe and _FORMULA.match(value) and not _NUMBER.fullmatch(value)
        text = "'" + value if unsafe else value
        if not text or _QUOTED.search(text) or text != text.strip():
            return '"' + text.replace('"', '""') + '"'
        return text


class CsvSinkOptions(SinkOptions):
    path: str = Field(min_length=1, description="The file to write, relative to the job file.")
    excel_safe: bool = Field(True, description="Put ' before texts that a spreadsheet would take for a formula.")

    def build(self, context: BuildContext) -> CsvSink:
        return CsvSink(context.base_dir / self.path, excel_safe=self.excel_safe)


@hookimpl
def register_sink(register: Register) -> None:
    register("csv", CsvSinkOptions)
