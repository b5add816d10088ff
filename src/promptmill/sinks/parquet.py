"""Sink ``parquet``: a directory of part files and a manifest that lists them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from anyio import to_thread
from pydantic import Field

from promptmill import jsontext
from promptmill.errors import PluginError, StorageError
from promptmill.files import DurableFile, fsync_dir, make_directory, remove, rename
from promptmill.hookspecs import hookimpl
from promptmill.interfaces import Position, Sink
from promptmill.models import Result
from promptmill.options import BuildContext, SinkOptions
from promptmill.sinks._altered import Altered
from promptmill.sinks._columns import COLUMNS, Cell, flatten
from promptmill.sinks._parts import PartFile
from promptmill.sinks._probing import refuse_unwritable

if TYPE_CHECKING:
    from promptmill.options import Register

MANIFEST: Final = "_manifest.json"
"""Readers of a directory of Parquet files leave out names that start with an underscore."""

GROUP_ROWS: Final = 5000
GROUP_CHARS: Final = 8 * 1024 * 1024
"""Rows wait in memory until there are as many, or so much text in them; then they are written as a row group."""

_PART: Final = re.compile(r"part-([0-9]{5,})\.parquet|_part-([0-9]{5,})\.parquet\.tmp")
_FORMAT: Final = 1
"""Version of the manifest."""


class ParquetSink(Sink):
    """Parts of ``rows_per_file`` rows, the last one as it comes. A part is there when it is complete, and does not
    change any more; the manifest lists those that are committed.

    A commit closes the part that is being written, so it is worth its while when a part is full, or at the end.

    Raises:
        PluginError: pyarrow is not installed.
    """

    def __init__(self, path: Path, *, rows_per_file: int = 50_000, run_id: str = "") -> None:
        self.path = path
        self._altered = Altered(f"the output directory {str(path)!r}")
        self._rows_per_file = rows_per_file
        self._run_id = run_id
        self._arrow, self._parquet = _load_pyarrow()
        self._schema = _schema_of(self._arrow)
        self._parts: list[int] = []
        self._committed: list[int] | None = None
        self._part: PartFile | None = None
        self._rows: list[list[Cell]] = []
        self._chars = 0

    async def start(self, position: Position | None) -> None:
        """Refuse a directory that is not empty (``position`` is None) or has lost parts (E0610, E0611)."""
        await to_thread.run_sync(self._start, position)

    async def probe(self, position: Position | None) -> None:
        await to_thread.run_sync(self._probe, position)

    async def set_aside(self) -> str | None:
        """``answers`` becomes ``answers.1``, or the next free number."""
        return await to_thread.run_sync(self._set_aside)

    def room(self) -> int:
        return 0 if self._parts != (self._committed or []) else self._space()

    async def write(self, results: Sequence[Result]) -> None:
        if results:
            await to_thread.run_sync(self._write, results)

    async def commit(self) -> Position:
        """``{"parts": n, "rows": n}``: how many parts there are, and the rows in them."""
        await to_thread.run_sync(self._commit)
        return {"parts": len(self._parts), "rows": sum(self._parts)}

    async def aclose(self) -> None:
        part, self._part = self._part, None
        self._rows, self._chars = [], 0
        if part is not None:
            await to_thread.run_sync(part.drop)

    def _probe(self, position: Position | None) -> None:
        refuse_unwritable(self.path, directory=True)
        with _naming(self.path):
            if position is None and self.path.exists():
                self._refuse_content()
            self._committed_parts(position)

    def _committed_parts(self, position: Position | None) -> list[int]:
        """The rows of each part that is committed. Raises StorageError when they are not what was written."""
        count, rows = _counts_of(position, self.path)
        parts = [self._rows_of(number, count, rows) for number in range(1, count + 1)]
        if sum(parts) != rows:
            raise self._lost(f"{sum(parts)} rows in {count} parts", count, rows)
        return parts

    def _start(self, position: Position | None) -> None:
        with _naming(self.path):
            make_directory(self.path)
            if position is None:
                self._refuse_content()
            self._parts = self._committed_parts(position)
            count = len(self._parts)
            for name, number in self._ours():
                if number > count or name.endswith(".tmp"):
                    remove(self.path / name)
            fsync_dir(self.path)
            self._committed = None
            if position:
                self._put_manifest()

    def _refuse_content(self) -> None:
        names = sorted(entry.name for entry in self.path.iterdir())
        if names:
            raise StorageError(
                f"the output directory {str(self.path)!r} holds {len(names)} files that are not of this run, "
                f"such as {names[0]!r}",
                code="E0610",
                hint="start over with `--fresh`, which moves it out of the way, or name another one in the job",
            )

    def _ours(self) -> list[tuple[str, int]]:
        """Names and numbers of part files, finished or not."""
        found = [(entry.name, _PART.fullmatch(entry.name)) for entry in self.path.iterdir()]
        return [(name, int(match[1] or match[2])) for name, match in found if match]

    def _rows_of(self, number: int, count: int, rows: int) -> int:
        name = _name_of(number)
        try:
            return int(self._parquet.read_metadata(self.path / name).num_rows)
        except (OSError, self._arrow.ArrowException) as error:
            raise self._lost(f"{name!r} cannot be read", count, rows) from error

    def _lost(self, found: str, parts: int, rows: int) -> StorageError:
        return StorageError(
            f"the output directory {str(self.path)!r} was changed: {rows} rows in {parts} parts were written, "
            f"and {found}",
            code="E0611",
            hint="put the parts back, or delete them all and write them anew from the journal with `promptmill export`",
        )

    def _set_aside(self) -> str | None:
        if not self.path.is_dir() or not any(self.path.iterdir()):
            return None
        names = (self.path.with_name(f"{self.path.name}.{number}") for number in itertools.count(1))
        free = next(name for name in names if not name.exists())
        rename(self.path, free)
        return str(free)

    def _write(self, results: Sequence[Result]) -> None:
        rows = [flatten(result, self._altered) for result in results]
        with _naming(self.path):
            while rows:
                taken, rows = rows[: self._space()], rows[self._space() :]
                self._rows += taken
                self._chars += sum(len(cell) for row in taken for cell in row if isinstance(cell, str))
                if self._space() == 0:
                    self._close_part()
                elif len(self._rows) >= GROUP_ROWS or self._chars >= GROUP_CHARS:
                    self._write_group()

    def _commit(self) -> None:
        with _naming(self.path):
            if self._rows or self._part:
                self._close_part()
            if self._parts != self._committed:
                self._put_manifest()

    def _space(self) -> int:
        """Rows the part that is being written can still take."""
        return self._rows_per_file - len(self._rows) - (self._part.rows if self._part else 0)

    def _write_group(self) -> None:
        if self._part is None:
            self._part = PartFile(self.path / _name_of(len(self._parts) + 1))
            self._part.writer = self._parquet.ParquetWriter(self._part, self._schema, compression="zstd")
        columns = zip(zip(*self._rows, strict=True), self._schema, strict=True)
        arrays = [self._arrow.array(cells, field.type) for cells, field in columns]
        self._part.add(self._arrow.Table.from_arrays(arrays, schema=self._schema), len(self._rows))
        self._rows, self._chars = [], 0

    def _close_part(self) -> None:
        if self._rows:
            self._write_group()
        if self._part is not None:
            self._part.finish()
            self._parts.append(self._part.rows)
            self._part = None

    def _put_manifest(self) -> None:
        parts = [{"file": _name_of(number), "rows": rows} for number, rows in enumerate(self._parts, start=1)]
        content = {"format_version": _FORMAT, "run_id": self._run_id, "rows": sum(self._parts), "parts": parts}
        new = self.path / f"{MANIFEST}.tmp"
        remove(new)
        file = DurableFile.open(new)
        try:
            file.write(jsontext.encode(content) + b"\n")
            file.fsync()
        finally:
            file.close()
        rename(new, self.path / MANIFEST)
        self._committed = list(self._parts)


class ParquetSinkOptions(SinkOptions):
    how_only = frozenset({"rows_per_file"})

    path: str = Field(min_length=1, description="The directory of the part files, relative to the job file.")
    rows_per_file: int = Field(50_000, ge=1, description="Rows of a part file; the last one may have fewer.")

    def build(self, context: BuildContext) -> ParquetSink:
        return ParquetSink(context.base_dir / self.path, rows_per_file=self.rows_per_file, run_id=context.run_id)


@hookimpl
def register_sink(register: Register) -> None:
    register("parquet", ParquetSinkOptions)


def _schema_of(arrow: Any) -> Any:
    text = arrow.string()
    types = {"integer": arrow.int64(), "real": arrow.float64(), "boolean": arrow.bool_(), "text": text, "json": text}
    return arrow.schema([(column.name, types[column.kind]) for column in COLUMNS])


def _name_of(number: int) -> str:
    return f"part-{number:05}.parquet"


def _counts_of(position: Position | None, path: Path) -> tuple[int, int]:
    parts, rows = (position.get("parts"), position.get("rows")) if position else (0, 0)
    if not isinstance(parts, int) or not isinstance(rows, int) or parts < 0:
        raise StorageError(f"the position kept for {str(path)!r} is not of this sink: {position!r}", code="E0611")
    return parts, rows


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn an error of the system into a StorageError that names the directory."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"the output directory {str(path)!r} cannot be used: {error.strerror or error}",
            code="E0601",
            hint="check the disk space, the permissions and the disk, then run the same command again",
        ) from error


def _load_pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise PluginError(
            f"the parquet sink needs pyarrow, which does not load: {error}",
            hint="pip install 'promptmill[parquet]'",
        ) from error
    return pa, pq
