"""`check` looks at all that a run would refuse, names it, and touches nothing."""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from promptmill._app import prepare
from promptmill._checkup import Checkup, check_up
from promptmill._registry import Registry
from promptmill.options import BuildContext, ProviderOptions
from promptmill.testing import EchoProvider


class EchoOptions(ProviderOptions):
    def build(self, context: BuildContext) -> EchoProvider:
        return EchoProvider()


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    registry.add("provider", "echo", EchoOptions)
    return registry


class Place:
    """A folder with a job in it, checked and run in this process."""

    def __init__(self, folder: Path, registry: Registry) -> None:
        self.folder = folder
        self.registry = registry
        self.rows(3)

    def rows(self, rows: int | list[Any]) -> None:
        if isinstance(rows, int):
            rows = [{"id": f"q{at}", "prompt": f"question {at}"} for at in range(rows)]
        text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
        (self.folder / "in.jsonl").write_text(text, encoding="utf-8")

    def job(self, **changes: Any) -> Path:
        given = {
            "version": 1,
            "input": {"path": "in.jsonl"},
            "providers": {"p": {"use": "echo"}},
            "output": "out.jsonl",
        }
        job = {key: value for key, value in {**given, **changes}.items() if value is not None}
        (self.folder / "job.yaml").write_text(json.dumps(job, indent=1), encoding="utf-8")
        return self.folder / "job.yaml"

    def files(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}

    async def check(self, **changes: Any) -> Checkup:
        prepared = prepare(self.job(**changes), registry=self.registry)
        before = self.files()
        found = await check_up(prepared)
        after = {name: data for name, data in self.files().items() if not name.endswith(("-wal", "-shm"))}
        assert after == {name: data for name, data in before.items() if not name.endswith(("-wal", "-shm"))}
        return found

    async def run(self) -> None:
        outcome = await prepare(self.folder / "job.yaml", registry=self.registry).run()
        assert outcome.stopped is None


@pytest.fixture
def place(tmp_path: Path, registry: Registry) -> Place:
    return Place(tmp_path, registry)


def codes(found: Checkup) -> list[str]:
    return [problem.code for problem in found.problems]


OPENAI = {"use": "openai-chat", "model": "m", "base_url": "http://127.0.0.1:9/v1"}


async def test_a_job_that_would_run(place: Place) -> None:
    found = await place.check()
    assert (codes(found), found.exit_code) == ([], 0)
    assert found.input is not None
    assert found.input.rows == 3


async def test_keys_that_are_not_set(place: Place) -> None:
    pytest.importorskip("promptmill_openai")
    providers = {"a": {**OPENAI, "api_key": "env:NOT_SET_ANYWHERE"}, "b": {**OPENAI, "api_key": "file:nowhere"}}
    found = await place.check(providers=providers, routes=[{"to": "a", "fallback": ["b"]}])
    assert (codes(found), found.exit_code) == (["E0110", "E0111"], 2)


async def test_a_key_of_a_pool(place: Place) -> None:
    pytest.importorskip("promptmill_openai")
    pool = [{"api_key": "env:PATH"}, {"api_key": "env:NOT_SET_ANYWHERE"}]
    found = await place.check(providers={"a": {**OPENAI, "pool": pool}})
    assert "E0110" in codes(found)


async def test_a_budget_without_prices_or_bounds(place: Place) -> None:
    pytest.importorskip("promptmill_openai")
    price = {"input": 1, "output": 1}
    found = await place.check(providers={"a": {**OPENAI, "model": "nobody-knows"}}, budget={"usd": 1})
    assert (set(codes(found)), found.exit_code) == ({"E0345"}, 2)
    found = await place.check(providers={"a": {**OPENAI, "price": price}}, budget={"usd": 1})
    assert set(codes(found)) == {"E0345"}
    found = await place.check(providers={"a": {**OPENAI, "price": price}}, budget={"usd": 1}, params={"max_tokens": 5})
    assert codes(found) == []


@pytest.mark.parametrize(("sink", "module"), [("duckdb", "duckdb"), ("parquet", "pyarrow"), ("postgres", "psycopg")])
async def test_missing_extras(place: Place, sink: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setenv("SOME_DSN", "host=x")
    where = {"dsn": "env:SOME_DSN"} if sink == "postgres" else {"path": "out"}
    found = await place.check(output=None, sinks=[{"use": sink, **where}])
    assert found.exit_code == 2
    assert found.problems[0].hint == f"pip install 'promptmill[{sink}]'"


async def test_outputs_that_are_taken_or_cannot_be(place: Place) -> None:
    (place.folder / "taken.jsonl").write_text("mine\n")
    (place.folder / "taken").mkdir()
    (place.folder / "folder").mkdir()
    (place.folder / "taken" / "x").write_text("mine")
    with closing(sqlite3.connect(place.folder / "taken.db")) as connection:
        connection.execute("CREATE TABLE results (mine TEXT)")
        connection.commit()
    (place.folder / "text.db").write_text("not a database at all, but text of some length" * 20)
    pytest.importorskip("pyarrow")
    sinks = [
        {"use": "jsonl", "path": "taken.jsonl"},
        {"use": "csv", "path": "folder"},
        {"use": "jsonl", "path": "taken.jsonl/x.jsonl"},
        {"use": "parquet", "path": "taken"},
        {"use": "parquet", "path": "taken.db"},
        {"use": "sqlite", "path": "taken.db"},
        {"use": "sqlite", "path": "text.db"},
        {"use": "sqlite", "path": "in.jsonl/x.db"},
        {"use": "jsonl", "path": "new/folders/out.jsonl"},
    ]
    found = await place.check(output=None, sinks=sinks)
    assert codes(found) == ["E0610", "E0612", "E0601", "E0610", "E0612", "E0614", "E0613", "E0601"]
    assert found.exit_code == 6


async def test_databases_that_are_not_there_are_left_alone(place: Place) -> None:
    pytest.importorskip("duckdb")
    found = await place.check(
        output=None, sinks=[{"use": "duckdb", "path": "a.duckdb"}, {"use": "sqlite", "path": "b.db"}]
    )
    assert codes(found) == []


async def test_a_run_that_would_go_on(place: Place) -> None:
    pytest.importorskip("duckdb")
    pytest.importorskip("pyarrow")
    sinks = [
        {"use": "jsonl", "path": "out.jsonl"},
        {"use": "csv", "path": "out.csv", "bom": True},
        {"use": "sqlite", "path": "out.db"},
        {"use": "duckdb", "path": "out.duckdb"},
        {"use": "parquet", "path": "out"},
    ]
    assert codes(await place.check(output=None, sinks=sinks)) == []
    await place.run()
    found = await place.check(output=None, sinks=sinks)
    assert (codes(found), found.notes) == ([], ["a run would go on: 3 rows have their answer, 0 to do"])
    place.rows(4)
    found = await place.check(output=None, sinks=sinks)
    assert (codes(found), found.notes) == ([], ["a run would go on: 3 rows have their answer, 1 to do"])
    (place.folder / "out.jsonl").write_text("")
    (place.folder / "out.db").unlink()
    next((place.folder / "out").glob("part-*")).unlink()
    assert codes(await place.check(output=None, sinks=sinks)) == ["E0611", "E0611", "E0611"]


async def test_rows_and_jobs_that_have_changed(place: Place) -> None:
    place.job()
    await place.run()
    assert codes(await place.check(params={"temperature": 1})) == ["E0340"]
    place.rows([{"id": "q0", "prompt": "another"}, {"id": "q1", "prompt": "question 1"}])
    found = await place.check()
    assert (set(codes(found)), found.exit_code) == ({"E0341"}, 2)
    assert len(codes(found)) == 2


async def test_everything_at_once(place: Place) -> None:
    pytest.importorskip("promptmill_openai")
    (place.folder / "out.jsonl").write_text("mine\n")
    place.rows([{"question": "x"}])
    found = await place.check(providers={"a": {**OPENAI, "api_key": "env:NOT_SET_ANYWHERE"}})
    assert codes(found) == ["E0110", "E0610", "E0310"]


def test_rows_are_named_and_none_that_can_be_used_is_exit_2(desk: Any) -> None:
    desk.prompts(b"".join(b'{"prompt" %d\n' % at for at in range(25)))
    desk.write()
    done = desk.run("check", "job.yaml")
    assert done.code == 2
    assert "E0313" in done.err
    for line in range(1, 21):
        assert f"prompts.jsonl:{line}: not JSON" in done.err
    assert "prompts.jsonl:21" not in done.err
    assert "... and 5 more; --json names all" in done.err
    done = desk.run("check", "job.yaml", "--json")
    assert done.code == 2
    assert [one["line"] for one in done.summary["bad"]] == list(range(1, 26))
    assert done.summary["ok"] is False
    assert [one["code"] for one in done.summary["problems"]] == ["E0313"]


def test_an_empty_input_is_told_by_check_and_run(desk: Any) -> None:
    desk.prompts(b"")
    desk.write()
    for command in ("check", "run"):
        done = desk.run(command, "job.yaml")
        assert done.code == 0
        assert "the input 'prompts.jsonl' is empty" in done.err


def test_a_run_says_which_row_is_bad_first(desk: Any) -> None:
    desk.prompts(b'{"prompt": "x"}\n[1]\n')
    desk.write()
    done = desk.run("run", "job.yaml")
    assert done.code == 1
    assert "the first: prompts.jsonl:2: a row is a JSON object, not a list" in done.err


def test_a_template_that_fails_on_every_row_is_told_once(desk: Any) -> None:
    desk.prompts([{"a": at} for at in range(30)])
    desk.write(input={"path": "prompts.jsonl", "prompt": "{{ b }}"})
    for command in ("check", "run"):
        done = desk.run(command, "job.yaml")
        assert done.code == 2
        assert done.err.count("'b' is undefined") == 1
        assert "30 of 30 rows" in done.err
        assert "--> job.yaml:" in done.err


def test_what_is_logged_is_told_as_a_warning(desk: Any) -> None:
    desk.prompts(b'{"id": "a", "prompt": "half \\ud83d"}\n')
    desk.write(output="answers.csv")
    for command in ("check", "plan", "run"):
        assert desk.run(command, "job.yaml").err.count("warning: text with lone surrogates") == 1
