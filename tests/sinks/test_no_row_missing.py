"""A row that is missing from a sink is never exit 0: every sink, hostile texts, this run and later ones."""

from __future__ import annotations

import csv
import io
import json
import logging
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from promptmill._app import Outcome, prepare
from promptmill._registry import Registry
from promptmill._status import run_status
from promptmill.errors import StorageError
from promptmill.models import Request, Response
from promptmill.options import BuildContext, ProviderOptions
from promptmill.sinks.memory import MemorySink, MemorySinkOptions
from promptmill.testing import EchoProvider

TEXTS: Final[Mapping[str, str]] = {
    "nul": "before \0 behind",
    "only nul": "\0",
    "escaped nul": "\\u0000 and \\\\u0000 and \\\0",
    "high surrogate": "half \ud83e of a pair",
    "low surrogate": "\udcff",
    "nul and surrogate": "\0\ud800\0",
    "line separators": "one\u2028two\u2029three\x85four\x0b\x0c\x1c",
    "line breaks": "one\r\ntwo\rthree\n\nfour\r",
    "controls": "".join(map(chr, range(1, 32))) + "\x7f\x80\x9f",
    "noncharacters": "\ufffe\uffff\U0001fffe\U0010ffff\ufdd0",
    "byte order mark": "\ufeffmarked\ufeff",
    "replacement": "\ufffd",
    "huge": "y" * 3_000_000 + "\0",
    "quotes": "\"'`$$ \\ %s %% {} {{ 7 * 7 }} ?",
    "formula": "=1+1",
    "bidi": "\u202eright to left\u2069",
    "empty": "",
    "space": "  \t ",
}
BROKEN: Final = ("\ud83e", "\ud800", "\udcff")


def as_stored(text: str, *, nul: bool = True) -> str:
    for half in BROKEN:
        text = text.replace(half, "\ufffd")
    return text if nul else text.replace("\0", "\ufffd")


class Hostile(EchoProvider):
    """Answers with the text whose name it is asked for."""

    async def complete(self, request: Request, *, timeout: float) -> Response:
        self.calls += 1
        return Response(text=TEXTS[request.messages[-1].text], finish_reason="stop", model="echo")


class Scene:
    """A job with one sink, and how to read what is in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.provider = Hostile()
        self.memory = MemorySink()
        self.registry = Registry()
        scene = self

        class HostileOptions(ProviderOptions):
            def build(self, context: BuildContext) -> Hostile:
                return scene.provider

        class Kept(MemorySinkOptions):
            def build(self, context: BuildContext) -> MemorySink:
                return scene.memory

        self.registry.add("provider", "hostile", HostileOptions)
        self.registry.add("sink", "memory-kept", Kept)

    def job(self, sink: Mapping[str, Any]) -> Path:
        rows = [{"id": name, "prompt": name, "kept": text} for name, text in TEXTS.items() if len(text) < 1000]
        rows += [{"id": name, "prompt": name, "kept": ""} for name, text in TEXTS.items() if len(text) >= 1000]
        (self.folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        job = {
            "version": 1,
            "input": {"path": "in.jsonl", "keep": ["kept"]},
            "providers": {"p": {"use": "hostile"}},
            "sinks": [sink],
        }
        path = self.folder / "job.yaml"
        path.write_text(json.dumps(job), encoding="utf-8")
        return path

    async def run(self, job: Path) -> Outcome:
        return await prepare(job, registry=self.registry).run()


Found = dict[str, tuple[str | None, str]]
"""By id: the text, and what was kept of the row."""


def from_jsonl(scene: Scene) -> Found:
    lines = (scene.folder / "out").read_bytes().split(b"\n")[:-1]
    return {one["id"]: (one["text"], one["meta"]["kept"]) for one in map(json.loads, lines)}


def from_csv(scene: Scene) -> Found:
    text = (scene.folder / "out").read_bytes().decode()
    before = csv.field_size_limit(10_000_000)
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
    finally:
        csv.field_size_limit(before)
    return {one["id"]: (one["text"].removeprefix("'"), json.loads(one["meta"])["kept"]) for one in rows}


def from_sqlite(scene: Scene) -> Found:
    with closing(sqlite3.connect(scene.folder / "out")) as connection:
        rows = connection.execute("SELECT id, text, meta FROM results").fetchall()
    return {id_: (text, json.loads(meta)["kept"]) for id_, text, meta in rows}


def from_duckdb(scene: Scene) -> Found:
    import duckdb

    with duckdb.connect(str(scene.folder / "out")) as connection:
        rows = connection.execute("SELECT id, text, meta FROM results").fetchall()
    return {id_: (text, json.loads(meta)["kept"]) for id_, text, meta in rows}


def from_parquet(scene: Scene) -> Found:
    import pyarrow.parquet as pq

    return {
        one["id"]: (one["text"], json.loads(one["meta"])["kept"])
        for one in pq.read_table(scene.folder / "out").to_pylist()
    }


def from_memory(scene: Scene) -> Found:
    return {one.id: (one.text and as_stored(one.text), one.meta["kept"]) for one in scene.memory.results}


READERS: Final[Mapping[str, Callable[[Scene], Found]]] = {
    "jsonl": from_jsonl,
    "csv": from_csv,
    "sqlite": from_sqlite,
    "duckdb": from_duckdb,
    "parquet": from_parquet,
    "memory": from_memory,
}


def test_every_sink_is_tried() -> None:
    assert {*READERS, "postgres"} == set(Registry().names("sink"))


def check(found: Found, outcome: Outcome, *, nul: bool = True) -> None:
    assert outcome.stopped is None
    assert outcome.summary.missing_in_sinks == {}
    assert set(found) == set(TEXTS)
    for name, (text, kept) in found.items():
        assert text == as_stored(TEXTS[name], nul=nul), name
        assert kept == ("" if name == "huge" else as_stored(TEXTS[name], nul=nul)), name


@pytest.mark.parametrize("sink", READERS)
async def test_hostile_texts_are_in(sink: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip({"duckdb": "duckdb", "parquet": "pyarrow"}.get(sink, "json"))
    scene = Scene(tmp_path)
    options = {"use": "memory-kept"} if sink == "memory" else {"use": sink, "path": "out"}
    with caplog.at_level(logging.WARNING, "promptmill"):
        outcome = await scene.run(scene.job(options))
    check(READERS[sink](scene), outcome)
    told = [one.getMessage() for one in caplog.records if "stored as U+FFFD" in one.getMessage()]
    assert len(told) == (0 if sink == "memory" else 1), told


async def test_hostile_texts_are_in_postgres(
    tmp_path: Path, postgres_server: Any, dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It cannot hold NUL, in a text as in JSON: that is replaced as lone surrogates are, and told once."""
    scene = Scene(tmp_path)
    (tmp_path / "dsn").write_text(dsn, encoding="utf-8")
    with caplog.at_level(logging.WARNING, "promptmill"):
        outcome = await scene.run(scene.job({"use": "postgres", "dsn": "file:dsn"}))
    rows = postgres_server.ask(dsn, 'SELECT id, "text", meta FROM results')
    check({id_: (text, meta["kept"]) for id_, text, meta in rows}, outcome, nul=False)
    told = [one.getMessage() for one in caplog.records if "stored as U+FFFD" in one.getMessage()]
    assert sum("NUL" in one for one in told) == sum("surrogates" in one for one in told) == 1


REFUSES_QUOTES: Final = (
    "CREATE TRIGGER picky BEFORE INSERT ON results WHEN NEW.id IN ('quotes', 'bidi') "
    "BEGIN SELECT RAISE(ABORT, 'not in my table'); END"
)


async def test_a_row_that_is_refused_is_exit_6_now_and_later_until_it_is_taken(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    job = scene.job({"use": "sqlite", "path": "out"})
    other = Scene(tmp_path / "other")
    other.folder.mkdir()
    await other.run(other.job({"use": "sqlite", "path": str(tmp_path / "out")}))  # makes the table
    with closing(sqlite3.connect(tmp_path / "out")) as connection:
        connection.execute("DELETE FROM results")
        connection.execute(REFUSES_QUOTES)
        connection.commit()
    for _ in range(3):
        outcome = await scene.run(job)
        assert outcome.stopped is not None
        assert (outcome.stopped.exit_code, outcome.stopped.code) == (6, "E0630")
        assert "2 rows are not in the sink sqlite(path=out); the first is" in outcome.stopped.message
        assert "not in my table" in outcome.stopped.message
        assert outcome.summary.missing_in_sinks == {"sqlite(path=out)": 2}
        assert outcome.summary.resumable
        assert outcome.summary.succeeded == len(TEXTS)
        (sink,) = run_status(tmp_path / ".promptmill" / "job").sinks
        assert set(sink.rejected) == {"quotes", "bidi"}
    with closing(sqlite3.connect(tmp_path / "out")) as connection:
        connection.execute("DROP TRIGGER picky")
    outcome = await scene.run(job)
    check(from_sqlite(scene), outcome)
    assert scene.provider.calls == len(TEXTS)


async def test_a_row_that_somebody_took_out_of_a_table_is_noticed(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    job = scene.job({"use": "sqlite", "path": "out"})
    await scene.run(job)
    with closing(sqlite3.connect(tmp_path / "out")) as connection:
        connection.execute("DELETE FROM results WHERE id = 'huge'")
        connection.commit()
    with pytest.raises(StorageError, match=f"has {len(TEXTS) - 1} rows of this run, and {len(TEXTS)} were") as caught:
        await scene.run(job)
    assert (caught.value.code, caught.value.exit_code) == ("E0611", 6)
