"""The parquet sink: the contract, parts and manifest, recovery, crashes at every step."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from promptmill import files
from promptmill.errors import PluginError, RowRejected, StorageError
from promptmill.interfaces import Sink
from promptmill.models import ErrorInfo, Result, Usage
from promptmill.options import BuildContext
from promptmill.sinks import parquet as module
from promptmill.sinks.parquet import MANIFEST, ParquetSink, ParquetSinkOptions
from promptmill.testing import SinkContract, result

pq = pytest.importorskip("pyarrow.parquet")


def read(folder: Path) -> list[dict[str, Any]]:
    """As users do: every part of the directory."""
    parts = sorted(folder.glob("*.parquet"))
    return [row for part in parts for row in pq.read_table(part).to_pylist()]


def manifest(folder: Path) -> Any:
    return json.loads((folder / MANIFEST).read_bytes())


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


class TestParquetSink(SinkContract):
    options_class = ParquetSinkOptions

    def settings(self) -> Mapping[str, Any]:
        return {"path": "deep/answers"}

    @property
    def path(self) -> Path:
        return self.folder / "deep" / "answers"

    def rows(self) -> Sequence[tuple[str, str | None]]:
        return [(row["id"], row["text"]) for row in read(self.path)]

    def make_foreign(self) -> bool:
        self.path.mkdir(parents=True)
        (self.path / "part-00001.parquet").write_bytes(b"somebody's")
        return True

    def make_unwritable(self) -> Sink:
        (self.folder / "file").write_bytes(b"")
        return ParquetSink(self.folder / "file")

    def lose(self) -> None:
        (self.path / "part-00001.parquet").unlink()


class TestOneRowAPart(TestParquetSink):
    def settings(self) -> Mapping[str, Any]:
        return {"path": "deep/answers", "rows_per_file": 1}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "answers"


def some(first: int, count: int) -> list[Result]:
    return [result(f"text {n}", id=str(n), index=n) for n in range(first, first + count)]


async def write(sink: Sink, *results: Result, position: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    async with sink:
        await sink.start(position)
        await sink.write(results)
        return await sink.commit()


async def test_every_field_has_its_type(folder: Path) -> None:
    full = Result(
        id="a",
        index=3,
        status="failed",
        provider="fast",
        attempts=2,
        latency_s=0.25,
        usage=Usage(input_tokens=2**40),
        cost_usd=0.5,
        error=ErrorInfo(code="bad_request", message="no", http_status=400, retryable=True),
        meta={"label": "é"},
    )
    await write(ParquetSink(folder), full)
    (row,) = read(folder)
    assert list(row)[:5] == ["id", "index", "status", "text", "finish_reason"]
    assert len(row) == 20
    assert {name: value for name, value in row.items() if value is not None} == {
        "id": "a",
        "index": 3,
        "status": "failed",
        "provider": "fast",
        "attempts": 2,
        "latency_s": 0.25,
        "input_tokens": 2**40,
        "cost_usd": 0.5,
        "error_code": "bad_request",
        "error_message": "no",
        "error_http_status": 400,
        "error_retryable": True,
        "meta": '{"label":"é"}',
    }


async def test_parts_have_as_many_rows_as_asked_for_and_the_manifest_lists_them(folder: Path) -> None:
    position = await write(ParquetSink(folder, rows_per_file=10, run_id="r1"), *some(0, 34))
    assert position == {"parts": 4, "rows": 34}
    assert manifest(folder) == {
        "format_version": 1,
        "run_id": "r1",
        "rows": 34,
        "parts": [
            {"file": "part-00001.parquet", "rows": 10},
            {"file": "part-00002.parquet", "rows": 10},
            {"file": "part-00003.parquet", "rows": 10},
            {"file": "part-00004.parquet", "rows": 4},
        ],
    }
    assert [row["id"] for row in read(folder)] == [str(n) for n in range(34)]


async def test_the_directory_reads_as_one_table(folder: Path) -> None:
    """The manifest, and a part that is being written, do not disturb."""
    async with ParquetSink(folder, rows_per_file=10) as sink:
        await sink.start(None)
        await sink.write(some(0, 20))
        await sink.commit()
        sink._rows_per_file = 10_000
        await sink.write(some(20, module.GROUP_ROWS))
        assert names(folder)[1] == "_part-00003.parquet.tmp"
        assert pq.read_table(folder).num_rows == 20


async def test_room_is_what_the_part_can_take(folder: Path) -> None:
    async with ParquetSink(folder, rows_per_file=10) as sink:
        await sink.start(None)
        rooms = [sink.room()]
        for at, count in ((0, 3), (3, 6), (9, 1)):
            await sink.write(some(at, count))
            rooms.append(sink.room())
        await sink.commit()
        assert [*rooms, sink.room()] == [10, 7, 1, 0, 10]
        await sink.write(some(10, 25))
        assert sink.room() == 0  # full parts wait for their commit, though one is half full
        assert await sink.commit() == {"parts": 4, "rows": 35}


async def test_memory_is_bounded_by_rows_and_by_text(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GROUP_ROWS", 7)
    monkeypatch.setattr(module, "GROUP_CHARS", 1000)
    async with ParquetSink(folder) as sink:
        await sink.start(None)
        for n in range(50):
            await sink.write(some(n, 1))
            assert len(sink._rows) < 7
        await sink.write([result("x" * 2000)])
        assert sink._rows == []
        await sink.commit()
    assert pq.ParquetFile(folder / "part-00001.parquet").num_row_groups == 8


async def test_recovery_drops_what_is_not_committed(folder: Path) -> None:
    """Parts that were closed after the commit, the one that was being written, and the manifest's mention of them."""
    first = await write(ParquetSink(folder, rows_per_file=5), *some(0, 5))
    async with ParquetSink(folder, rows_per_file=5) as sink:
        await sink.start(first)
        await sink.write(some(5, 10))
        await sink.commit()
        await sink.write(some(15, 7))
    (folder / "_part-00005.parquet.tmp").write_bytes(b"torn")
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    async with ParquetSink(folder, rows_per_file=5) as sink:
        await sink.start(first)
        assert names(folder) == [MANIFEST, "notes.txt", "part-00001.parquet"]
        assert manifest(folder)["rows"] == 5
        await sink.write(some(5, 2))
        assert await sink.commit() == {"parts": 2, "rows": 7}
    assert [row["id"] for row in read(folder)] == [str(n) for n in range(7)]


@pytest.mark.parametrize("damage", ["gone", "empty", "torn", "other"])
async def test_a_damaged_part_is_refused(folder: Path, damage: str) -> None:
    position = await write(ParquetSink(folder, rows_per_file=5), *some(0, 12))
    part = folder / "part-00002.parquet"
    content = part.read_bytes()
    if damage == "gone":
        part.unlink()
    elif damage == "other":
        part.write_bytes((folder / "part-00003.parquet").read_bytes())
    else:
        part.write_bytes(content[: len(content) // 2] if damage == "torn" else b"")
    with pytest.raises(StorageError, match="was changed: 12 rows in 3 parts were written, and") as caught:
        await write(ParquetSink(folder), position=position)
    assert caught.value.code == "E0611"
    assert (folder / "part-00003.parquet").exists()
    part.write_bytes(content)
    await write(ParquetSink(folder), *some(12, 1), position=position)
    assert len(read(folder)) == 13


async def test_strange_position_is_refused(folder: Path) -> None:
    for position in ({"bytes": 7}, {"parts": 1}, {"parts": -1, "rows": 0}, {"parts": "1", "rows": 1}):
        with pytest.raises(StorageError, match="is not of this sink"):
            await write(ParquetSink(folder), position=position)


async def test_a_number_too_large_is_rejected_and_nothing_of_its_group_is_written(folder: Path) -> None:
    async with ParquetSink(folder) as sink:
        await sink.start(None)
        with pytest.raises(RowRejected, match="input_tokens 18446744073709551616") as caught:
            await sink.write([*some(0, 3), result(id="bad", usage=Usage(input_tokens=2**64))])
        assert caught.value.result_id == "bad"
        await sink.write(some(0, 3))
        await sink.commit()
    assert len(read(folder)) == 3


class Crash(BaseException):
    """Nothing that runs after a kill runs after this."""


OPERATIONS = ["write", "fsync", "rename", "remove", "fsync_dir"]


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("error", [Crash, StorageError])
async def test_a_crash_or_failure_at_any_operation_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str, error: type[BaseException]
) -> None:
    """The engine's way: after it, the same rows from behind the last position that was noted."""
    monkeypatch.setattr(os, "fsync", lambda _: None)  # none of these crashes takes the power away
    at, finished = 0, False
    while not finished:
        at += 9 if operation == "write" else 1  # pyarrow writes in many small steps
        folder = tmp_path / str(at)
        noted: Mapping[str, Any] = {}
        with monkeypatch.context() as patch:
            fail_at(patch, operation, at, error)
            try:
                async with ParquetSink(folder, rows_per_file=4) as sink:
                    await sink.start({})
                    for first in (0, 3, 6):
                        await sink.write(some(first, 3))
                        if first != 3:
                            noted = await sink.commit()
                finished = True
            except error:
                pass
        await write(ParquetSink(folder, rows_per_file=4), *some(rows := noted.get("rows", 0), 9 - rows), position=noted)
        assert [row["id"] for row in read(folder)] == [str(n) for n in range(9)]
        assert manifest(folder)["rows"] == 9
        assert not list(folder.glob("*.tmp"))
    assert at > 3


def fail_at(patch: pytest.MonkeyPatch, operation: str, at: int, error: type[BaseException]) -> None:
    """Make the ``at``-th operation of that name fail before it does anything."""
    count = [0]
    holders: list[Any] = [files.DurableFile] if operation in ("write", "fsync") else [module, module_of_parts(), files]
    for holder in holders:
        original = getattr(holder, operation, None)
        if original is None:
            continue

        def failing(*arguments: Any, _original: Any = original) -> Any:
            count[0] += 1
            if count[0] == at:
                raise error("at your service")
            return _original(*arguments)

        patch.setattr(holder, operation, failing)


def module_of_parts() -> Any:
    return sys.modules["promptmill.sinks._parts"]


def test_the_size_of_parts_may_change_during_a_run() -> None:
    assert ParquetSinkOptions(path="x", rows_per_file=7).identity() == {"path": "x"}


def test_without_pyarrow_the_way_to_get_it_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(PluginError, match="the parquet sink needs pyarrow") as caught:
        ParquetSinkOptions(path="x").build(BuildContext(name="sink 1", base_dir=tmp_path))
    assert caught.value.hint == "pip install 'promptmill[parquet]'"
