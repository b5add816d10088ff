"""Source ``csv``: comma-separated values with a header, one row a record. Every value is text."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import Field

from promptmill.errors import InputError, Location
from promptmill.hookspecs import hookimpl
from promptmill.models import BadRow, Result, Row
from promptmill.options import BuildContext
from promptmill.sources._bytes import suffix_of
from promptmill.sources._dialect import dialect_of
from promptmill.sources._head import Peeked
from promptmill.sources._layouts import refuse_json
from promptmill.sources._lines import MAX_LINE_BYTES, UTF8_MARK, line_end, split_lines
from promptmill.sources._reading import FileSource, FileSourceOptions, Sized
from promptmill.sources._records import Record, split_records

if TYPE_CHECKING:
    from promptmill.options import Register

_TAB_SUFFIX: Final = ".tsv"

_OUR_HEADER: Final = ",".join(Result.__struct_fields__[:10]).encode() + b","
"""How the header of our csv sink begins where it puts ``'`` before texts; with ``excel_safe: false`` it has quotes."""


class CsvSource(FileSource):
    """Each file has a header of its own. Fields may be quoted with ``"`` and then hold delimiters, newlines and
    doubled quotes. Blank lines between records are skipped; an empty field is an empty text. The ``'`` that our csv
    sink puts before texts is taken off again.

    A record that cannot be read becomes a BadRow at its first line: ``input_csv`` (wrong number of fields, broken
    quotes), ``line_too_long`` or ``input_encoding``.

    Args:
        delimiter: one character; None means what the first records say, else a tab for ``.tsv`` files and a comma for
            others.
        max_line: most bytes of one record.
    """

    def __init__(
        self,
        paths: Sequence[str],
        base_dir: Path,
        *,
        delimiter: str | None = None,
        max_line: int = MAX_LINE_BYTES,
        encoding: str | None = None,
    ) -> None:
        super().__init__(paths, base_dir, max_line=max_line, encoding=encoding)
        self._delimiter = delimiter

    def ways(self) -> list[str]:
        return [*super().ways(), *([] if self._delimiter is None else [repr(self._delimiter)])]

    def parse(self, stream: Peeked, name: str) -> Generator[Sized, None, None]:
        """Raises InputError for a header or a delimiter that cannot be read (E0305), a column named twice (E0306), or
        a file of JSON (E0308)."""
        refuse_json(stream.head, name)
        dialect = dialect_of(stream, name, "\t" if suffix_of(name) == _TAB_SUFFIX else ",", self._delimiter)
        if dialect.found:
            self.note(f"{name}: the fields seem to be separated by {dialect.delimiter!r}; if not, set `delimiter`")
        is_disarmed = stream.head.removeprefix(UTF8_MARK).startswith(_OUR_HEADER)
        lines = split_lines(stream, name, self.max_line, line_end(stream.head))
        if dialect.has_directive:
            next(lines)
        header: list[str] | None = None
        for record in split_records(lines, name, dialect.delimiter, self.max_line):
            if header is None:
                header = _header_of(record, name)
            else:
                yield _row_of(record, header, is_disarmed), record.length


def _header_of(record: Record, name: str) -> list[str]:
    place = Location(file=name, line=record.origin.line)
    if isinstance(record.fields, BadRow):
        raise InputError(
            f"the header of {name!r} cannot be read: {record.fields.message}", code="E0305", location=place
        )
    header = [field.strip() for field in record.fields]
    twice = sorted({column for column in header if header.count(column) > 1})
    if twice:
        raise InputError(
            f"the header of {name!r} names the column {twice[0]!r} more than once: {', '.join(map(repr, header[:20]))}",
            code="E0306",
            hint="give each column a name of its own in the first line of the file",
            location=place,
        )
    return header


def _row_of(record: Record, header: list[str], is_disarmed: bool) -> Row | BadRow:
    fields = record.fields
    if isinstance(fields, BadRow):
        return fields
    if len(fields) != len(header):
        return BadRow("input_csv", f"the row has {len(fields)} fields, the header {len(header)}", record.origin)
    if is_disarmed:
        fields = [field.removeprefix("'") for field in fields]
    return Row(dict(zip(header, fields, strict=True)), record.origin)


class CsvSourceOptions(FileSourceOptions):
    suffixes = (".csv", _TAB_SUFFIX)

    delimiter: str | None = Field(
        None,
        min_length=1,
        max_length=1,
        pattern=r'^[^"\r\n]$',
        description="What separates fields; default: what the first rows say, a comma or one of `; | tab`.",
    )

    def build(self, context: BuildContext) -> CsvSource:
        return CsvSource(
            self.paths,
            context.base_dir,
            delimiter=self.delimiter,
            max_line=self.max_line,
            encoding=self.encoding,
        )


@hookimpl
def register_source(register: Register) -> None:
    register("csv", CsvSourceOptions)
