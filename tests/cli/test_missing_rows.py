"""A row that a sink does not take, as a user sees it: exit 6 at every run until the sink takes it, and named."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import anyio

from promptmill.sinks.sqlite import SqliteSink

PICKY = (
    "CREATE TRIGGER picky BEFORE INSERT ON results WHEN NEW.id = 'q1' BEGIN SELECT RAISE(ABORT, 'not this one'); END"
)


def ask(desk: Any, statement: str) -> list[Any]:
    with closing(sqlite3.connect(desk.root / "out.db")) as connection:
        rows = connection.execute(statement).fetchall()
        connection.commit()
        return rows


def test_a_row_that_is_not_in_a_table(desk: Any, sim: Any) -> None:
    async def make_the_table() -> None:
        async with SqliteSink(desk.root / "out.db") as sink:
            await sink.start(None)

    anyio.run(make_the_table)
    ask(desk, PICKY)
    desk.prompts(3)
    desk.write(output=None, sinks=[{"use": "sqlite", "path": "out.db"}, {"use": "jsonl", "path": "answers.jsonl"}])
    for _ in range(3):
        done = desk.run("run", "job.yaml", "--json")
        assert done.code == 6, done.err
        assert done.summary["missing_in_sinks"] == {"sqlite(path=out.db)": 1}
        assert (done.summary["succeeded"], done.summary["resumable"]) == (3, True)
        assert "error[E0630]: 1 row is not in the sink sqlite(path=out.db); row 'q1': " in done.err
        assert "not this one" in done.err
        assert "no call is repeated" in done.err
        assert len(desk.records()) == 3
    assert "does not take 'q1'" in desk.run("status", "job.yaml").out
    ask(desk, "DROP TRIGGER picky")
    done = desk.run("run", "job.yaml", "--json")
    assert (done.code, done.summary["missing_in_sinks"]) == (0, {}), done.err
    assert ask(desk, "SELECT id FROM results ORDER BY id") == [("q0",), ("q1",), ("q2",)]
    assert sim.ledger(0)["requests"] == 3
