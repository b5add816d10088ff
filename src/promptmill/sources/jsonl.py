"""Source ``jsonl``: one JSON object a line."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from promptmill import jsontext
from promptmill.hookspecs import hookimpl
from promptmill.models import BadRow, Origin, Row
from promptmill.options import BuildContext
from promptmill.sources._head import Peeked
from promptmill.sources._layouts import refuse_plain_text
from promptmill.sources._lines import Line, line_end, not_utf8, split_lines, too_long
from promptmill.sources._python_json import decode_python
from promptmill.sources._reading import FileSource, FileSourceOptions, Sized
from promptmill.sources._values import holds_values, split_values

if TYPE_CHECKING:
    from promptmill.options import Register


class JsonlSource(FileSource):
    """Blank lines are skipped. A line that is not a JSON object becomes a BadRow: ``line_too_long``,
    ``input_encoding`` or ``input_json``. NaN and Infinity, as Python writes them, are taken as null.

    A file that is one JSON array, or objects over several lines or with commas between them, is read object by object.
    """

    def parse(self, stream: Peeked, name: str) -> Generator[Sized, None, None]:
        """Raises InputError for JSON over several lines that has no end (E0309), or a file without any JSON (E0308)."""
        end = line_end(stream.head)
        refuse_plain_text(stream.head, name, end)
        by_value = holds_values(stream.head, whole=stream.whole)
        split = split_values if by_value else split_lines
        for line in split(stream, name, self.max_line, end):
            if line.data is None:
                yield too_long(line, name, self.max_line), 0
            elif line.data and not line.data.isspace():
                yield self._row_of(line.data, line, name), line.length

    def _row_of(self, data: bytes, line: Line, name: str) -> Row | BadRow:
        row = row_of(data, line, name)
        if isinstance(row, BadRow) and row.code == "input_json" and (read := decode_python(data)):
            columns, with_nan = read
            for column in with_nan:
                self.note(f"{name}: NaN or Infinity in the column {column!r} is taken as null")
            return Row(columns, row.origin)
        return row


def row_of(data: bytes, line: Line, name: str) -> Row | BadRow:
    """Read one line."""
    origin = Origin(name, line.number, line.offset)
    try:
        value = jsontext.decode(data)
    except jsontext.BadJSON as error:
        try:
            data.decode("utf-8")
        except UnicodeDecodeError as wrong:
            return not_utf8(wrong, line, name)
        hint = "; Python writes JSON with json.dumps, not with str" if data.lstrip().startswith(b"{'") else ""
        return BadRow("input_json", f"not JSON: {error}{hint}", origin)
    if not isinstance(value, dict):
        return BadRow("input_json", f"a row is a JSON object, not {_kind(value)}", origin)
    return Row(value, origin)


def _kind(value: jsontext.JSON) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case str():
            return "text"
        case list():
            return "a list"
        case _:
            return "a number"


class JsonlSourceOptions(FileSourceOptions):
    suffixes = (".jsonl", ".ndjson", ".json")

    def build(self, context: BuildContext) -> JsonlSource:
        return JsonlSource(self.paths, context.base_dir, max_line=self.max_line, encoding=self.encoding)


@hookimpl
def register_source(register: Register) -> None:
    register("jsonl", JsonlSourceOptions)
