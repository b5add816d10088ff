"""Source ``jsonl``: one JSON object a line."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from promptmill import jsontext
from promptmill.hookspecs import hookimpl
from promptmill.models import BadRow, Origin, Row
from promptmill.options import BuildContext
from promptmill.sources._bytes import ByteStream
from promptmill.sources._lines import MAX_LINE_BYTES, Line, not_utf8, split_lines, too_long
from promptmill.sources._reading import FileSource, FileSourceOptions, Sized

if TYPE_CHECKING:
    from promptmill.options import Register


class JsonlSource(FileSource):
    """Blank lines are skipped. A line that is not a JSON object becomes a BadRow: ``line_too_long``,
    ``input_encoding`` or ``input_json``."""

    def __init__(self, paths: Sequence[str], base_dir: Path, *, max_line: int = MAX_LINE_BYTES) -> None:
        super().__init__(paths, base_dir)
        self._max_line = max_line

    def parse(self, stream: ByteStream, name: str) -> Generator[Sized, None, None]:
        for line in split_lines(stream, name, self._max_line):
            if line.data is None:
                yield too_long(line, name, self._max_line), 0
            elif line.data and not line.data.isspace():
                yield row_of(line.data, line, name), line.length


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
        return BadRow("input_json", f"not JSON: {error}", origin)
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
    suffixes = (".jsonl", ".ndjson")

    def build(self, context: BuildContext) -> JsonlSource:
        return JsonlSource(self.paths, context.base_dir, max_line=self.max_line)


@hookimpl
def register_source(register: Register) -> None:
    register("jsonl", JsonlSourceOptions)
