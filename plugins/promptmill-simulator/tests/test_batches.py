from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest

from promptmill_simulator import Simulator

Start = Callable[..., Simulator]
ClientOf = Callable[..., openai.OpenAI]
Check = Callable[[str, Any], None]
URL: Any = "/v1/chat/completions"
QUICK: Any = {"speed": 20_000, "batch": {"in_progress": 600}}
"""A batch of these takes some 50 ms; its window is 4 seconds."""


def line(custom_id: str, **body: Any) -> str:
    question = {"model": "m", "messages": [{"role": "user", "content": f"q {custom_id}"}], **body}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": URL, "body": question}) + "\n"


def lines(count: int) -> str:
    return "".join(line(f"r-{number}") for number in range(count))


def create(client: openai.OpenAI, content: str, **fields: Any) -> Any:
    file = client.files.create(file=("in.jsonl", content.encode()), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint=URL, completion_window="24h", **fields)


def wait_for(client: openai.OpenAI, batch: Any, until: Callable[[Any], bool] | None = None) -> Any:
    """Poll until the batch has ended, or ``until`` holds."""
    reached = until or (lambda seen: seen.status in ("completed", "failed", "expired", "cancelled"))
    for _ in range(2000):
        batch = client.batches.retrieve(batch.id)
        if reached(batch):
            return batch
        time.sleep(0.005)
    raise AssertionError(f"the batch stays {batch.status}")


def read(client: openai.OpenAI, file_id: str | None) -> dict[str, Any]:
    if file_id is None:
        return {}
    found = [json.loads(text) for text in client.files.content(file_id).text.split("\n") if text]
    by_id = {item["custom_id"]: item for item in found}
    assert len(by_id) == len(found)
    return by_id


def test_a_batch_completes(simulate: Start, client_of: ClientOf, matches_schema: Check) -> None:
    sim = simulate(**QUICK)
    client = client_of(sim)
    created = create(client, lines(50), metadata={"tag": "x"})
    assert (created.status, created.request_counts.total) == ("validating", 0)
    batch = wait_for(client, created)
    assert batch.status == "completed"
    assert batch.metadata == {"tag": "x"}
    assert batch.model == "m"
    assert (batch.request_counts.completed, batch.request_counts.failed, batch.request_counts.total) == (50, 0, 50)
    assert batch.error_file_id is None
    stamps = [batch.created_at, batch.in_progress_at, batch.finalizing_at, batch.completed_at]
    assert stamps == sorted(stamps)
    answers = read(client, batch.output_file_id)
    assert sorted(answers) == sorted(f"r-{number}" for number in range(50))
    assert list(answers) != sorted(answers, key=lambda name: int(name[2:]))
    tokens = 0
    for answer in answers.values():
        assert (answer["response"]["status_code"], answer["error"]) == (200, None)
        matches_schema("CreateChatCompletionResponse", answer["response"]["body"])
        tokens += answer["response"]["body"]["usage"]["total_tokens"]
    assert batch.usage.total_tokens == tokens
    assert sim.ledger(0)["paid_calls"] == 50
    output = client.files.retrieve(batch.output_file_id)
    assert (output.purpose, output.expires_at is not None) == ("batch_output", True)


def test_a_batch_says_what_a_single_question_says(simulate: Start, client_of: ClientOf) -> None:
    client = client_of(simulate(**QUICK))
    single = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "q r-0"}])
    batch = wait_for(client, create(client, lines(1)))
    [answer] = read(client, batch.output_file_id).values()
    said = answer["response"]["body"]["choices"][0]["message"]["content"]
    assert said == single.choices[0].message.content


async def test_the_async_client_runs_a_batch(simulate: Start) -> None:
    async with openai.AsyncOpenAI(
        base_url=simulate(**QUICK).base_url, api_key="x", max_retries=0, _strict_response_validation=True
    ) as client:
        file = await client.files.create(file=("in.jsonl", lines(3).encode()), purpose="batch")
        batch = await client.batches.create(input_file_id=file.id, endpoint=URL, completion_window="24h")
        assert (await client.batches.retrieve(batch.id)).id == batch.id
        assert [item.id async for item in client.batches.list()] == [batch.id]


@pytest.mark.parametrize(
    ("content", "code", "at"),
    [
        (line("a") + "{oops\n", "invalid_json_line", 2),
        (line("a") + line("a"), "duplicate_custom_id", 2),
        (line("a").replace(URL, "/v1/embeddings"), "url_mismatch", 1),
        (line("a") + line("b", model="n"), "model_mismatch", 2),
        ("\n", "empty_file", None),
        (lines(6), "too_many_tasks", None),
    ],
)
def test_bad_input_fails_the_batch_and_not_the_call(
    simulate: Start, client_of: ClientOf, matches_schema: Check, content: str, code: str, at: int | None
) -> None:
    sim = simulate(speed=20_000, batch={"max_requests": 5})
    client = client_of(sim)
    batch = wait_for(client, create(client, content))
    assert batch.status == "failed"
    assert [(error.code, error.line) for error in batch.errors.data] == [(code, at)]
    assert (batch.output_file_id, batch.error_file_id, batch.failed_at is not None) == (None, None, True)
    assert sim.ledger(0)["paid_calls"] == 0
    matches_schema("Batch", httpx.get(f"{sim.base_url}/batches/{batch.id}").json())


def test_a_cancelled_batch_keeps_what_was_done(simulate: Start, client_of: ClientOf, matches_schema: Check) -> None:
    sim = simulate(**QUICK, scripts=[{"stall_at": 0.5}])
    client = client_of(sim)
    batch = wait_for(client, create(client, lines(10)), lambda seen: seen.request_counts.completed == 5)
    cancelling = client.batches.cancel(batch.id)
    assert cancelling.status == "cancelling"
    ended = wait_for(client, batch)
    assert (ended.status, ended.request_counts.completed) == ("cancelled", 5)
    assert len(read(client, ended.output_file_id)) == 5
    assert ended.error_file_id is None
    matches_schema("Batch", httpx.get(f"{sim.base_url}/batches/{batch.id}").json())
    with pytest.raises(openai.ConflictError, match="Cannot cancel a batch with status 'cancelled'"):
        client.batches.cancel(batch.id)


def test_a_batch_cancelled_in_validating_has_no_files(simulate: Start, client_of: ClientOf) -> None:
    client = client_of(simulate(speed=1000, batch={"validating": "1h", "cancelling": "1m"}))
    batch = create(client, lines(3))
    assert client.batches.cancel(batch.id).status == "cancelling"
    assert client.batches.cancel(batch.id).status == "cancelling"
    ended = wait_for(client, batch)
    assert (ended.status, ended.output_file_id, ended.error_file_id) == ("cancelled", None, None)


def test_an_expired_batch_lists_what_was_not_done(simulate: Start, client_of: ClientOf) -> None:
    sim = simulate(speed=5_000, batch={"in_progress": 200, "window": "1h"}, scripts=[{"stall_at": 0.3}])
    client = client_of(sim)
    ended = wait_for(client, create(client, lines(10)))
    assert ended.status == "expired"
    done, undone = read(client, ended.output_file_id), read(client, ended.error_file_id)
    assert (len(done), len(undone)) == (3, 7)
    assert {(item["response"], item["error"]["code"]) for item in undone.values()} == {(None, "batch_expired")}
    assert sim.ledger(0)["paid_calls"] == 3


def test_when_all_lines_fail_there_is_no_output_file(simulate: Start, client_of: ClientOf) -> None:
    sim = simulate(**QUICK, faults=["status=429,on=batch-line"])
    client = client_of(sim)
    ended = wait_for(client, create(client, lines(4)))
    assert (ended.status, ended.output_file_id, ended.request_counts.failed) == ("completed", None, 4)
    answers = read(client, ended.error_file_id)
    assert {item["response"]["status_code"] for item in answers.values()} == {429}
    assert all(item["response"]["body"]["error"]["code"] == "rate_limit_exceeded" for item in answers.values())


def test_single_lines_go_wrong(simulate: Start, client_of: ClientOf) -> None:
    client = client_of(simulate(**QUICK, faults=["status=500,id=r-1", "refusal,id=r-2"]))
    ended = wait_for(client, create(client, lines(4) + line("bad", messages=[])))
    good, bad = read(client, ended.output_file_id), read(client, ended.error_file_id)
    assert sorted(good) == ["r-0", "r-2", "r-3"]
    assert good["r-2"]["response"]["body"]["choices"][0]["message"]["refusal"]
    assert {name: item["response"]["status_code"] for name, item in bad.items()} == {"r-1": 500, "bad": 400}
    assert (ended.request_counts.completed, ended.request_counts.failed) == (3, 2)


def test_scripts_pick_their_batches(simulate: Start, client_of: ClientOf) -> None:
    problem = {"code": "token_limit_exceeded", "message": "Enqueued token limit reached for m."}
    scripts = [{"nth": 2, "fail_with": [problem]}, {"metadata": {"slow": "yes"}, "times": {"validating": "20h"}}]
    client = client_of(simulate(**QUICK, scripts=scripts))
    slow = create(client, lines(2), metadata={"slow": "yes"})
    second, third = create(client, lines(2)), create(client, lines(2))
    assert wait_for(client, second).errors.data[0].code == "token_limit_exceeded"
    assert wait_for(client, third).status == "completed"
    assert client.batches.retrieve(slow.id).status == "validating"


def test_an_input_file_that_is_gone_fails_the_batch(simulate: Start, client_of: ClientOf) -> None:
    client = client_of(simulate(speed=1000, batch={"validating": "1m"}))
    batch = create(client, lines(2))
    client.files.delete(batch.input_file_id)
    assert wait_for(client, batch).errors.data[0].code == "invalid_file"


def test_listing_is_newest_first_and_paged(simulate: Start, client_of: ClientOf, matches_schema: Check) -> None:
    sim = simulate()
    client = client_of(sim)
    matches_schema("ListBatchesResponse", httpx.get(f"{sim.base_url}/batches").json())
    names = [create(client, lines(1)).id for _ in range(5)]
    assert [batch.id for batch in client.batches.list(limit=2)] == names[::-1]
    assert [batch.id for batch in client.batches.list(after=names[2]).data] == [names[1], names[0]]
    matches_schema("ListBatchesResponse", httpx.get(f"{sim.base_url}/batches?limit=2").json())


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"input_file_id": "file-none"}, "input_file_id"),
        ({"input_file_id": None}, "input_file_id"),
        ({"endpoint": "/v1/nothing"}, "endpoint"),
        ({"completion_window": "1h"}, "completion_window"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"metadata": {str(number): "" for number in range(17)}}, "metadata"),
        ({"metadata": {"a": "x" * 513}}, "metadata"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 1}}, "output_expires_after.seconds"),
        ({"output_expires_after": {"anchor": "now", "seconds": 3600}}, "output_expires_after.anchor"),
        ({"output_expires_after": 5}, "output_expires_after"),
    ],
)
def test_orders_that_cannot_be(
    simulate: Start, client_of: ClientOf, matches_schema: Check, changes: dict[str, Any], param: str
) -> None:
    sim = simulate()
    file = client_of(sim).files.create(file=("in.jsonl", lines(1).encode()), purpose="batch")
    order = {"input_file_id": file.id, "endpoint": URL, "completion_window": "24h", **changes}
    reply = httpx.post(f"{sim.base_url}/batches", json=order)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)
    matches_schema("ErrorResponse", reply.json())


def test_unknown_batches_and_wrong_purposes(simulate: Start, client_of: ClientOf) -> None:
    client = client_of(simulate())
    for use in (client.batches.retrieve, client.batches.cancel):
        with pytest.raises(openai.NotFoundError):
            use("batch_unknown")
    other = client.files.create(file=("in.jsonl", b"x"), purpose="user_data")
    with pytest.raises(openai.BadRequestError, match="purpose 'user_data'"):
        client.batches.create(input_file_id=other.id, endpoint=URL, completion_window="24h")


def test_creating_can_be_processed_without_a_reply(simulate: Start, client_of: ClientOf) -> None:
    sim = simulate(faults=["reset,on=batches.create,times=1"])
    client = client_of(sim)
    assert list(client.batches.list()) == []
    with pytest.raises(openai.APIConnectionError):
        create(client, lines(1), metadata={"tag": "mine"})
    assert [batch.metadata for batch in client.batches.list()] == [{"tag": "mine"}]
    assert sim.ledger(0)["batches"]["by_metadata"] == {"tag": {"mine": 1}}
