"""A real run, with a real database that goes away in the middle of it and comes back; every tabular sink takes part."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import to_thread

from promptmill._app import Orders, Outcome, prepare
from promptmill._registry import Registry
from promptmill.models import Request, Response
from promptmill.options import BuildContext, ProviderOptions
from promptmill.secrets import Secret
from promptmill.sinks.postgres import PostgresSink
from promptmill.testing import EchoProvider

ROWS = 600
JOB = """
version: 1
input: {path: prompts.jsonl}
providers: {echo: {use: echo, max_concurrency: 20}}
routes: [{to: echo}]
sinks:
  - {use: jsonl, path: answers.jsonl}
  - {use: postgres, dsn: "file:dsn"}
  - {use: sqlite, path: answers.db}
  - {use: duckdb, path: answers.duckdb}
  - {use: parquet, path: answers, rows_per_file: 250}
"""


class Stage(EchoProvider):
    """Answers so many requests and then waits to be told of the next number."""

    def __init__(self) -> None:
        super().__init__()
        self.allowed = 0
        self.waiting = 0
        self._told = anyio.Event()

    def allow(self, number: int) -> None:
        self.allowed = number
        told, self._told = self._told, anyio.Event()
        told.set()

    async def complete(self, request: Request, *, timeout: float) -> Response:
        number = self.calls = self.calls + 1
        while number > self.allowed:
            await self._told.wait()
        await anyio.sleep(0.001)
        return Response(text=request.messages[-1].text.upper(), finish_reason="stop", model="echo")


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
def registry(stage: Stage) -> Registry:
    class StageOptions(ProviderOptions):
        def build(self, context: BuildContext) -> Stage:
            return stage

    registry = Registry()
    registry.add("provider", "echo", StageOptions)
    return registry


@pytest.fixture
def job(tmp_path: Path, dsn: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("promptmill._projection.FIRST_WAIT", 0.05)
    monkeypatch.setattr("promptmill._projection.LONGEST_WAIT", 0.2)
    prompts = [json.dumps({"id": f"q{n}", "prompt": f"question {n}"}) for n in range(ROWS)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(prompts), encoding="utf-8")
    (tmp_path / "dsn").write_text(dsn, encoding="utf-8")
    (tmp_path / "job.yaml").write_text(JOB, encoding="utf-8")
    return tmp_path / "job.yaml"


async def lines_reach(path: Path, count: int) -> None:
    with anyio.fail_after(20):
        while not path.exists() or path.read_bytes().count(b"\n") < count:
            await anyio.sleep(0.01)


def contents(folder: Path, server: Any, dsn: str) -> dict[str, list[tuple[str, str]]]:
    """``(id, text)`` of every row, sink by sink."""
    import duckdb
    import pyarrow.parquet as pq

    query = 'SELECT id, "text" FROM results'
    with closing(sqlite3.connect(folder / "answers.db")) as connection:
        in_sqlite = connection.execute(query).fetchall()
    with duckdb.connect(str(folder / "answers.duckdb")) as connection:
        in_duckdb = connection.execute(query).fetchall()
    lines = (folder / "answers.jsonl").read_bytes().split(b"\n")[:-1]
    return {
        "jsonl": sorted((record["id"], record["text"]) for record in map(json.loads, lines)),
        "postgres": sorted(server.ask(dsn, query)),
        "sqlite": sorted(in_sqlite),
        "duckdb": sorted(in_duckdb),
        "parquet": sorted((row["id"], row["text"]) for row in pq.read_table(folder / "answers").to_pylist()),
    }


EXPECTED = sorted((f"q{n}", f"QUESTION {n}") for n in range(ROWS))


async def test_a_database_that_goes_away_for_a_while_gets_everything(
    job: Path, registry: Registry, stage: Stage, postgres_server: Any, dsn: str
) -> None:
    outcomes: list[Outcome] = []

    async def run() -> None:
        outcomes.append(await prepare(job, registry=registry).run())

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        stage.allow(200)
        await lines_reach(job.parent / "answers.jsonl", 200)
        await to_thread.run_sync(postgres_server.stop)
        try:
            stage.allow(400)
            await lines_reach(job.parent / "answers.jsonl", 400)
            await anyio.sleep(0.3)
        finally:
            await to_thread.run_sync(postgres_server.start)
        stage.allow(ROWS)

    (outcome,) = outcomes
    assert outcome.stopped is None
    assert outcome.summary.succeeded == stage.calls == ROWS
    found = contents(job.parent, postgres_server, dsn)
    assert found == dict.fromkeys(found, EXPECTED)


async def test_a_database_that_stays_away_stops_no_other_sink_and_is_brought_up_to_date_later(
    job: Path, registry: Registry, stage: Stage, postgres_server: Any, dsn: str
) -> None:
    outcomes: list[Outcome] = []

    async def run() -> None:
        outcomes.append(await prepare(job, registry=registry).run())

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(run)
            stage.allow(200)
            await lines_reach(job.parent / "answers.jsonl", 200)
            await to_thread.run_sync(postgres_server.stop)
            stage.allow(ROWS)
    finally:
        await to_thread.run_sync(postgres_server.start)

    stopped = outcomes[0].stopped
    assert stopped is not None
    assert stopped.exit_code == 6
    assert "a sink does not have all results: the PostgreSQL database 'postgres' on" in stopped.message
    found = contents(job.parent, postgres_server, dsn)
    assert len(found.pop("postgres")) < ROWS
    assert found == dict.fromkeys(found, EXPECTED)

    await run()
    assert outcomes[1].stopped is None
    assert stage.calls == ROWS
    found = contents(job.parent, postgres_server, dsn)
    assert found == dict.fromkeys(found, EXPECTED)


async def test_a_fresh_run_leaves_the_rows_of_the_old_one(
    job: Path, registry: Registry, stage: Stage, postgres_server: Any, dsn: str
) -> None:
    stage.allow(2 * ROWS)
    first = await prepare(job, registry=registry).run()
    second = await prepare(job, registry=registry).run(Orders(fresh=True))
    rows = postgres_server.ask(dsn, "SELECT run_id, count(*) FROM results GROUP BY 1")
    assert dict(rows) == {first.summary.run_id: ROWS, second.summary.run_id: ROWS}
    with closing(sqlite3.connect(job.parent / "answers.db")) as connection:
        assert connection.execute("SELECT count(DISTINCT run_id), count(*) FROM results").fetchone() == (2, 2 * ROWS)
    assert (job.parent / "answers.1" / "_manifest.json").is_file()
    assert json.loads((job.parent / "answers" / "_manifest.json").read_bytes())["run_id"] == second.summary.run_id


async def test_a_rejected_row_is_missing_in_one_sink_and_the_run_says_so(
    job: Path, registry: Registry, stage: Stage, postgres_server: Any, dsn: str
) -> None:
    stage.allow(ROWS)
    place = PostgresSink(Secret(dsn))
    async with place:
        await place.start(None)
    postgres_server.ask(dsn, "ALTER TABLE results ADD CONSTRAINT picky CHECK (\"text\" !~ ' 17')")
    outcome = await prepare(job, registry=registry).run()
    bad = [row for row in EXPECTED if row[1].startswith("QUESTION 17")]
    assert outcome.rejected == len(bad) == 11
    assert outcome.stopped is not None
    assert outcome.stopped.exit_code == 6
    assert list(outcome.summary.missing_in_sinks.values()) == [11]
    found = contents(job.parent, postgres_server, dsn)
    assert found.pop("postgres") == [row for row in EXPECTED if row not in bad]
    assert found == dict.fromkeys(found, EXPECTED)

    postgres_server.ask(dsn, "ALTER TABLE results DROP CONSTRAINT picky")
    outcome = await prepare(job, registry=registry).run()
    assert outcome.stopped is None
    assert outcome.summary.missing_in_sinks == {}
    assert stage.calls == ROWS
    found = contents(job.parent, postgres_server, dsn)
    assert found == dict.fromkeys(found, EXPECTED)
