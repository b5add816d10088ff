"""The Batch API, over real HTTP: against the simulator, and against replies written by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import respx

from promptmill.batch import BatchLimits, BatchLine, BatchStatus, Shard
from promptmill.errors import BadOutput, Permanent, ProviderError, Transient
from promptmill.models import Message, Request, Response, TokenEstimate
from promptmill.options import BuildContext
from promptmill_openai.batch import OpenAIBatch, OpenAIBatchOptions

simulator = pytest.importorskip("promptmill_simulator")

QUICK = {"speed": 20_000, "batch": {"in_progress": 600}}
"""A batch of these takes some 50 ms; its window is 4 seconds."""

BASE = "http://llm.test/v1"

Simulate = Callable[..., Any]


@pytest.fixture
def simulate() -> Iterator[Simulate]:
    started: list[Any] = []

    def start(**options: Any) -> Any:
        started.append(simulator.Simulator(simulator.SimulatorOptions.model_validate({**QUICK, **options})))
        started[-1].start()
        return started[-1]

    yield start
    for one in started:
        one.stop()


def provider(base_url: str, **settings: Any) -> OpenAIBatch:
    options = OpenAIBatchOptions.model_validate({"model": "gpt-x", "base_url": base_url, **settings})
    return options.build(BuildContext(name="bulk"))


def question(number: int, **params: Any) -> Request:
    return Request(id=f"row {number}", index=number, messages=(Message("user", f"q {number}"),), params=params)


def embedding(**params: Any) -> Request:
    return Request(id="1", operation="embeddings", params=params)


def shard(directory: Path, made_by: OpenAIBatch, count: int = 5, tag: str = "run-1", extra: bytes = b"") -> Shard:
    path = directory / f"{tag}.jsonl"
    lines = [made_by.encode(question(number), f"{tag}-{number}") + b"\n" for number in range(count)]
    path.write_bytes(b"".join(lines) + extra)
    size = path.stat().st_size
    return Shard(tag=tag, path=path, requests=count, bytes=size, operation="chat", model=None)


async def ended(bulk: OpenAIBatch, handle: str) -> BatchStatus:
    with anyio.fail_after(20):
        while not (status := await bulk.poll(handle)).is_final:
            await anyio.sleep(0.01)
    return status


async def collected(bulk: OpenAIBatch, paths: Sequence[Path]) -> dict[str, Response | ProviderError]:
    lines: list[BatchLine] = []
    for path in paths:
        lines += [line async for group in bulk.read(path) for line in group]
    return {line.wire_id: line.outcome for line in lines}


@pytest.mark.parametrize("endpoint", ["chat", "responses", "embeddings"])
async def test_there_and_back(simulate: Simulate, tmp_path: Path, endpoint: str) -> None:
    async with provider(simulate().base_url, endpoint=endpoint) as bulk:
        sent = shard(tmp_path, bulk)
        assert await bulk.find("run-1") is None
        created = await bulk.create(sent)
        found = await bulk.find("run-1")
        assert found is not None
        assert found.handle == created.handle
        status = await ended(bulk, created.handle)
        assert (status.state, status.total, status.completed) == ("completed", 5, 5)
        paths = await bulk.download(created.handle, tmp_path)
        outcomes = await collected(bulk, paths)
    assert sorted(outcomes) == [f"run-1-{number}" for number in range(5)]
    for outcome in outcomes.values():
        assert isinstance(outcome, Response)
        assert outcome.tier == "batch"
        assert outcome.text
        assert outcome.usage.input_tokens


async def test_a_second_download_takes_the_files_of_the_first(simulate: Simulate, tmp_path: Path) -> None:
    async with provider(simulate().base_url, delete_files=True) as bulk:
        handle = (await bulk.create(shard(tmp_path, bulk))).handle
        await ended(bulk, handle)
        paths = await bulk.download(handle, tmp_path)
        await bulk.forget(handle)
        await bulk.forget(handle)
        assert await bulk.download(handle, tmp_path) == paths
        for path in paths:
            path.unlink()
        with pytest.raises(Permanent) as caught:
            await bulk.download(handle, tmp_path)
    assert caught.value.code == "results_gone"


async def test_files_stay_unless_they_are_to_be_deleted(simulate: Simulate, tmp_path: Path) -> None:
    async with provider(simulate().base_url) as bulk:
        handle = (await bulk.create(shard(tmp_path, bulk))).handle
        await ended(bulk, handle)
        await bulk.forget(handle)
        assert len(await collected(bulk, await bulk.download(handle, tmp_path))) == 5


async def test_a_bad_line_fails_the_batch_and_is_named(simulate: Simulate, tmp_path: Path) -> None:
    async with provider(simulate().base_url) as bulk:
        handle = (await bulk.create(shard(tmp_path, bulk, extra=b"no JSON\n"))).handle
        status = await ended(bulk, handle)
        assert await bulk.find("run-1") is None, "a batch that failed as a whole is none"
        assert await bulk.download(handle, tmp_path) == []
    assert status.state == "failed"
    assert [problem.line for problem in status.problems] == [6]
    assert isinstance(status.failure, Permanent)


async def test_what_finished_before_a_cancel_is_kept(simulate: Simulate, tmp_path: Path) -> None:
    stalled = simulate(scripts=[{"stall_at": 0.4}])
    async with provider(stalled.base_url) as bulk:
        handle = (await bulk.create(shard(tmp_path, bulk, 10))).handle
        with anyio.fail_after(20):
            while (await bulk.poll(handle)).completed != 4:
                await anyio.sleep(0.01)
        await bulk.cancel(handle)
        assert (await ended(bulk, handle)).state == "cancelled"
        await bulk.cancel(handle)
        outcomes = await collected(bulk, await bulk.download(handle, tmp_path))
    assert sum(isinstance(outcome, Response) for outcome in outcomes.values()) == 4


async def test_what_finished_before_the_window_closed_is_kept(simulate: Simulate, tmp_path: Path) -> None:
    stalled = simulate(scripts=[{"stall_at": 0.5}], speed=100_000)
    async with provider(stalled.base_url) as bulk:
        handle = (await bulk.create(shard(tmp_path, bulk, 10))).handle
        assert (await ended(bulk, handle)).state == "expired"
        outcomes = await collected(bulk, await bulk.download(handle, tmp_path))
    assert sum(isinstance(outcome, Response) for outcome in outcomes.values()) == 5
    late = [outcome for outcome in outcomes.values() if isinstance(outcome, ProviderError)]
    assert {(type(outcome), outcome.code) for outcome in late} == {(Transient, "batch_expired")}


async def test_an_uploaded_file_is_used_again(simulate: Simulate, tmp_path: Path) -> None:
    server = simulate()
    async with provider(server.base_url) as bulk:
        sent = shard(tmp_path, bulk)
        one, other = await bulk.create(sent), await bulk.create(sent)
        assert one.handle != other.handle
        assert (await bulk.find("run-1") or other).handle == one.handle, "of several the oldest"
    async with httpx.AsyncClient() as client:
        files = (await client.get(f"{server.base_url}/files?purpose=batch")).json()["data"]
    assert [file["filename"] for file in files] == ["run-1.jsonl"]


async def test_a_handle_nobody_knows(simulate: Simulate) -> None:
    async with provider(simulate().base_url) as bulk:
        with pytest.raises(Permanent) as caught:
            await bulk.poll("batch_nobody")
    assert caught.value.code == "batch_not_found"


async def test_a_tag_is_found_on_any_page(simulate: Simulate, tmp_path: Path) -> None:
    async with provider(simulate().base_url) as bulk:
        first = await bulk.create(shard(tmp_path, bulk, 1))
        async with anyio.create_task_group() as group:
            for number in range(110):
                group.start_soon(bulk.create, shard(tmp_path, bulk, 1, tag=f"other-{number}"))
        found = await bulk.find("run-1")
    assert found is not None
    assert found.handle == first.handle


def test_a_line_is_the_body_a_realtime_call_would_have() -> None:
    bulk = provider(BASE, extra_body={"store": False})
    line = json.loads(bulk.encode(question(1, temperature=0, stream=True, service_tier="flex"), "t-1"))
    assert line == {
        "custom_id": "t-1",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {
            "model": "gpt-x",
            "messages": [{"role": "user", "content": "q 1"}],
            "temperature": 0,
            "store": False,
        },
    }
    own = json.loads(bulk.encode(question(1, model="gpt-y"), "t-1"))
    assert own["body"]["model"] == "gpt-y"


def test_an_embedding_is_asked_for_as_in_realtime() -> None:
    bulk = provider(BASE, endpoint="embeddings")
    line = json.loads(bulk.encode(question(1, dimensions=3, encoding_format="base64"), "t-1"))
    assert line["url"] == "/v1/embeddings"
    assert line["body"] == {"model": "gpt-x", "input": "q 1", "dimensions": 3}
    ids = json.loads(bulk.encode(embedding(input=[7, 8]), "t-1"))
    assert ids["body"] == {"model": "gpt-x", "input": [7, 8]}


@pytest.mark.parametrize("given", [["one"], ["one", "two"], [[1, 2]]])
def test_a_list_of_texts_is_not_sent_in_a_batch(given: Any) -> None:
    with pytest.raises(Permanent, match="a row of its own"):
        provider(BASE, endpoint="embeddings").encode(embedding(input=given), "t-1")


async def test_an_embedding_is_read_as_in_realtime(tmp_path: Path) -> None:
    def result(wire_id: str, *vectors: list[float]) -> str:
        body = {"model": "e", "data": [{"index": n, "embedding": vector} for n, vector in enumerate(vectors)]}
        return json.dumps({"custom_id": wire_id, "response": {"status_code": 200, "body": body}})

    path = tmp_path / "results.jsonl"
    path.write_text("\n".join([result("one", [0.5, 1]), result("two", [0.5], [0.25]), result("none")]))
    outcomes = await collected(provider(BASE, endpoint="embeddings"), [path])
    one = outcomes["one"]
    assert isinstance(one, Response)
    assert one.text == "[0.5,1]"
    assert isinstance(outcomes["two"], BadOutput), "more than was asked for"
    assert isinstance(outcomes["none"], BadOutput)


@pytest.mark.parametrize(
    ("endpoint", "request_", "expected"),
    [
        ("chat", question(1, max_tokens=9), TokenEstimate(8, 9)),
        ("responses", question(1, max_output_tokens=9), TokenEstimate(8, 9)),
        ("responses", Request(id="1", operation="responses", params={"input": "x" * 35}), TokenEstimate(13, None)),
        ("embeddings", embedding(input="x" * 35), TokenEstimate(10, 0)),
    ],
)
def test_the_estimate_is_that_of_realtime(endpoint: str, request_: Request, expected: TokenEstimate) -> None:
    assert provider(BASE, endpoint=endpoint).estimate(request_) == expected


@respx.mock
async def test_lifetimes_and_the_tag_are_sent(tmp_path: Path) -> None:
    respx.get(f"{BASE}/files").respond(json={"data": [], "has_more": False})
    files = respx.post(f"{BASE}/files").respond(json={"id": "file-1"})
    batches = respx.post(f"{BASE}/batches").respond(json={"id": "batch_1", "status": "validating"})
    settings = {"expires_after": "2h", "output_expires_after": "1d", "http": {"backend": "httpx"}}
    async with provider(BASE, **settings) as bulk:
        await bulk.create(shard(tmp_path, bulk))
    form = files.calls.last.request.content
    assert b'name="purpose"\r\n\r\nbatch\r\n' in form
    assert b'name="expires_after[anchor]"\r\n\r\ncreated_at\r\n' in form
    assert b'name="expires_after[seconds]"\r\n\r\n7200\r\n' in form
    assert b'filename="run-1.jsonl"' in form
    assert json.loads(batches.calls.last.request.content) == {
        "input_file_id": "file-1",
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
        "metadata": {"promptmill_tag": "run-1"},
        "output_expires_after": {"anchor": "created_at", "seconds": 86_400},
    }


@respx.mock
@pytest.mark.parametrize(
    "files",
    [
        {"output_file_id": "file-o", "error_file_id": ""},
        {"output_file_id": "file-o", "error_file_id": None},
        {"output_file_id": "file-o", "error_file_id": "file-gone"},
    ],
)
async def test_an_error_file_that_is_not_there_is_not_missed(tmp_path: Path, files: dict[str, Any]) -> None:
    respx.get(f"{BASE}/batches/batch_1").respond(json={"id": "batch_1", "status": "completed", **files})
    respx.get(f"{BASE}/files/file-o/content").respond(content=b"")
    respx.get(f"{BASE}/files/file-gone/content").respond(404, json={"error": {"message": "no such file"}})
    async with provider(BASE, http={"backend": "httpx"}) as bulk:
        paths = await bulk.download("batch_1", tmp_path)
        assert await collected(bulk, paths) == {}
    assert [path.name for path in paths] == ["batch_1-output.jsonl"]


@respx.mock
async def test_a_batch_without_any_output_has_its_errors(tmp_path: Path) -> None:
    value = {"id": "batch_1", "status": "completed", "output_file_id": None, "error_file_id": "file-e"}
    line = {"custom_id": "t-1", "response": {"status_code": 400, "body": {"error": {"message": "no"}}}}
    respx.get(f"{BASE}/batches/batch_1").respond(json=value)
    respx.get(f"{BASE}/files/file-e/content").respond(content=json.dumps(line).encode())
    async with provider(BASE, http={"backend": "httpx"}) as bulk:
        outcomes = await collected(bulk, await bulk.download("batch_1", tmp_path))
    assert isinstance(outcomes["t-1"], Permanent)


@respx.mock
@pytest.mark.parametrize("reply", [{}, [], {"data": None}, "text"])
async def test_a_list_that_is_none_is_no_proof_of_absence(reply: Any) -> None:
    respx.get(f"{BASE}/batches").respond(json=reply)
    async with provider(BASE, http={"backend": "httpx"}) as bulk:
        with pytest.raises(BadOutput):
            await bulk.find("run-1")


@respx.mock
async def test_a_lost_reply_is_said_to_be_one(tmp_path: Path) -> None:
    respx.get(f"{BASE}/files").respond(json={"data": []})
    respx.post(f"{BASE}/files").respond(json={"id": "file-1"})
    respx.post(f"{BASE}/batches").mock(side_effect=httpx.ReadError)
    async with provider(BASE, http={"backend": "httpx"}) as bulk:
        with pytest.raises(Transient):
            await bulk.create(shard(tmp_path, bulk))
    assert respx.calls.call_count == 3


@pytest.mark.parametrize("lifetime", ["30m", "31d"])
def test_a_lifetime_the_api_does_not_take_is_refused(lifetime: str) -> None:
    with pytest.raises(ValueError, match="expires_after"):
        provider(BASE, expires_after=lifetime)


def test_it_is_installed_under_its_name() -> None:
    (entry,) = entry_points(group="promptmill", name="provider.openai-batch")
    registered: dict[str, Any] = {}
    entry.load().register_provider(registered.setdefault)
    assert registered == {"openai-batch": OpenAIBatchOptions}


def test_its_options_are_those_of_a_batch_and_of_this_plugin() -> None:
    options = OpenAIBatchOptions.model_validate({"model": "gpt-x"})
    assert options.timeout == 3600
    assert {"max_batches", "organization", "delete_files", "price"} <= options.how_only
    with pytest.raises(ValueError, match="model"):
        OpenAIBatchOptions.model_validate({})
    with pytest.raises(ValueError, match="max_concurrency"):
        OpenAIBatchOptions.model_validate({"model": "gpt-x", "max_concurrency": 4})


def test_limits_are_the_smaller_of_ours_and_theirs() -> None:
    assert provider(BASE).limits == BatchLimits(requests=50_000, bytes=180_000_000, window_s=86_400.0)
    small = provider(BASE, batch_requests=10, batch_bytes=1000).limits
    assert (small.requests, small.bytes) == (10, 1000)
    large = provider(BASE, batch_requests=10**6, batch_bytes=10**9).limits
    assert (large.requests, large.bytes) == (50_000, 180_000_000)
