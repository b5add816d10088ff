"""Status, export, sharing and caching over real runs: what a journal can tell afterwards, and what it saves."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from anyio import to_thread

from promptmill import _app
from promptmill._export import batch_lines, export, records
from promptmill._locations import run_directory, state_directory
from promptmill._registry import Registry
from promptmill._status import run_status, runs_in
from promptmill.cli.export import export as export_command
from promptmill.errors import Permanent, StorageError, UsageError
from promptmill.interfaces import RealtimeProvider
from promptmill.models import Request, Response, Usage
from promptmill.options import BuildContext, ProviderOptions

Job = Callable[..., Path]


class Counting(RealtimeProvider):
    model = "counting"

    def __init__(self, calls: list[str]) -> None:
        self._calls = calls

    async def complete(self, request: Request, *, timeout: float) -> Response:
        text = request.messages[-1].text
        self._calls.append(text)
        if text == "bad":
            raise Permanent("no", code="bad_request", http_status=400)
        body = json.dumps({"object": "chat.completion", "said": text}).encode() if text == "raw" else b""
        return Response(text=text.upper(), usage=Usage(input_tokens=3, output_tokens=4), body=body)


@pytest.fixture
def calls() -> list[str]:
    return []


@pytest.fixture
def registry(calls: list[str]) -> Registry:
    class CountingOptions(ProviderOptions):
        def build(self, context: BuildContext) -> Counting:
            return Counting(calls)

    made = Registry()
    made.add("provider", "counting", CountingOptions)
    return made


@pytest.fixture
def job(tmp_path: Path) -> Job:
    def write(rows: list[str], name: str = "job", **keys: Any) -> Path:
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"prompt": row}) + "\n" for row in rows))
        content = {
            "version": 1,
            "input": {"path": f"{name}.jsonl"},
            "providers": {"a": {"use": "counting"}},
            "output": f"{name}-out.jsonl",
            **keys,
        }
        path = tmp_path / f"{name}.yaml"
        path.write_text(json.dumps(content))
        return path

    return write


async def run(path: Path, registry: Registry, *, retry_failed: bool = False, **options: Any) -> _app.Outcome:
    return await _app.prepare(path, registry=registry).run(_app.Orders(retry_failed=retry_failed), **options)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


async def test_the_status_of_a_finished_run(job: Job, registry: Registry) -> None:
    path = job(["one", "bad", "two"])
    outcome = await run(path, registry)
    status = run_status(run_directory(path))
    assert (status.state, status.total, status.succeeded, status.failed) == ("finished", 3, 2, 1)
    assert status.errors == {"bad_request": 1}
    assert status.run_id == outcome.summary.run_id
    assert [sink.behind for sink in status.sinks] == [0]


async def test_the_status_while_a_run_goes_on(job: Job, registry: Registry) -> None:
    path = job(["one", "two"])
    seen = []
    await run(path, registry, on_start=lambda _: seen.append(run_status(run_directory(path))))
    (status,) = seen
    assert (status.state, status.total, status.succeeded) == ("running", 2, 0)
    assert status.owner is not None
    assert "process" in status.owner


@pytest.mark.parametrize("order", ["completion", "input"])
async def test_no_sink_is_behind_when_failures_have_been_retried(job: Job, registry: Registry, order: str) -> None:
    path = job(["one", "bad", "two"], order=order)
    await run(path, registry)
    await run(path, registry, retry_failed=True)
    assert [sink.behind for sink in run_status(run_directory(path)).sinks] == [0]


async def test_the_runs_of_a_directory_are_listed_by_name(job: Job, registry: Registry, tmp_path: Path) -> None:
    for name in ("second", "first"):
        await run(job(["one"], name), registry)
    assert [one.job for one in runs_in(state_directory(tmp_path))] == ["first", "second"]
    assert runs_in(tmp_path / "elsewhere") == []


def test_a_job_that_never_ran_has_no_status(job: Job) -> None:
    with pytest.raises(UsageError, match="there is no run"):
        run_status(run_directory(job(["one"])))


async def test_export_gives_the_same_lines_as_the_sink(job: Job, registry: Registry, tmp_path: Path) -> None:
    path = job(["one", "bad", "two"])
    await run(path, registry)
    assert b"".join(records(run_directory(path))) == (tmp_path / "job-out.jsonl").read_bytes()


async def test_export_through_a_sink(job: Job, registry: Registry, tmp_path: Path) -> None:
    path = job(["one", "two"])
    await run(path, registry)
    assert await export(run_directory(path), "csv", tmp_path / "out.csv") == 2
    assert (tmp_path / "out.csv").read_text().count("\n") == 3
    with pytest.raises(StorageError, match=r"out\.csv"):
        await export(run_directory(path), "csv", tmp_path / "out.csv")


async def test_export_as_batch_output_keeps_the_providers_own_body(job: Job, registry: Registry) -> None:
    path = job(["raw", "bad", "plain"])
    await run(path, registry)
    raw, bad, plain = sorted(map(json.loads, batch_lines(run_directory(path))), key=lambda line: line["custom_id"])
    assert raw["response"] == {
        "status_code": 200,
        "request_id": raw["response"]["request_id"],
        "body": {"object": "chat.completion", "said": "raw"},
    }
    assert (bad["response"], bad["error"]) == (None, {"code": "bad_request", "message": "no"})
    made = plain["response"]["body"]
    assert made["choices"][0]["message"] == {"role": "assistant", "content": "PLAIN", "refusal": None}
    assert made["usage"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


async def test_identical_prompts_at_temperature_0_are_sent_once(
    job: Job, registry: Registry, calls: list[str], tmp_path: Path
) -> None:
    path = job(["same", "other", "same", "same"], params={"temperature": 0})
    outcome = await run(path, registry)
    assert sorted(calls) == ["other", "same"]
    assert outcome.summary.succeeded == 4
    assert outcome.summary.attempts == 2
    records_ = lines(tmp_path / "job-out.jsonl")
    assert sorted(one["id"] for one in records_) == ["1", "2", "3", "4"]
    assert [one["text"] for one in records_ if one["id"] in ("1", "3", "4")] == ["SAME"] * 3


async def test_they_are_all_sent_when_answers_may_differ(job: Job, registry: Registry, calls: list[str]) -> None:
    await run(job(["same", "same"]), registry)
    assert calls == ["same", "same"]


async def test_a_resumed_run_shares_the_answers_of_the_first(
    job: Job, registry: Registry, calls: list[str], tmp_path: Path
) -> None:
    path = job(["same", "x", "same"], dedupe=True)
    await run(path, registry)
    with (tmp_path / "job.jsonl").open("a") as file:
        file.write('{"prompt": "same"}\n')
    outcome = await run(path, registry)
    assert calls.count("same") == 1
    assert outcome.summary.succeeded == 4


async def test_a_cache_serves_the_next_run_of_another_job(job: Job, registry: Registry, calls: list[str]) -> None:
    await run(job(["one", "bad"], "first", cache="answers.db"), registry)
    calls.clear()
    outcome = await run(job(["one", "bad", "two"], "second", cache="answers.db"), registry)
    assert sorted(calls) == ["bad", "two"]
    assert (outcome.summary.succeeded, outcome.summary.failed) == (2, 1)


async def test_a_cache_does_not_mix_providers(job: Job, registry: Registry, calls: list[str]) -> None:
    await run(job(["one"], "first", cache="answers.db"), registry)
    other = {"a": {"use": "counting", "model": "another"}}
    await run(job(["one"], "second", cache="answers.db", providers=other), registry)
    assert calls == ["one", "one"]


async def test_failed_requests_are_sent_again_only_when_asked(
    job: Job, registry: Registry, calls: list[str], tmp_path: Path
) -> None:
    path = job(["one", "bad"])
    await run(path, registry)
    await run(path, registry)
    assert calls.count("bad") == 1
    await run(path, registry, retry_failed=True)
    assert calls.count("bad") == 2
    assert calls.count("one") == 1
    assert sorted(one["id"] for one in lines(tmp_path / "job-out.jsonl")) == ["1", "2"]


@pytest.mark.parametrize("sink", ["memory", "postgres"])
async def test_export_through_a_sink_without_a_file_is_refused(
    job: Job, registry: Registry, tmp_path: Path, sink: str
) -> None:
    path = job(["a"])
    await _app.prepare(path, registry=registry).run()
    with pytest.raises(UsageError, match="writes to no file") as caught:
        await export(run_directory(path), sink, tmp_path / "out")
    assert (caught.value.code, caught.value.exit_code) == ("E0133", 2)
    with pytest.raises(UsageError, match="gone when the run is over"):
        await export(run_directory(path), "sqlite", Path(":memory:"))


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl", "out", "out.db", "out.parquet", "out.duckdb"])
async def test_export_goes_by_the_ending(
    job: Job, registry: Registry, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("duckdb")
    pytest.importorskip("pyarrow")
    path = job(["a"])
    await _app.prepare(path, registry=registry).run()
    given: list[tuple[str, str]] = []

    async def noted(directory: Path, sink: str, output: Path) -> int:
        given.append((sink, re.sub(r"\.[0-9a-f]{8}\.part$", "", output.name)))  # renamed once it is whole
        return await export(directory, sink, output)

    monkeypatch.setattr("promptmill._export.export", noted)
    await to_thread.run_sync(export_command, path, str(tmp_path / name))
    kinds = {"out": "jsonl", "out.db": "sqlite"}
    assert given == [(kinds.get(name, name.removeprefix("out.")), name)]
    assert (tmp_path / name).exists()


def test_export_to_an_unknown_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no format goes by the ending") as caught:
        export_command(tmp_path / "job.yaml", str(tmp_path / "out.txt"))
    assert caught.value.code == "E0134"
