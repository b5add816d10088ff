"""Every way in which a batch can end, as scripts order it. The official client reads all it can, strictly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest

from promptmill.clock import SystemClock
from promptmill_simulator import Answer, Task

MakeDesk = Callable[..., Any]
Check = Callable[[str, Any], None]


class Slow(SystemClock):
    """A clock that also answers, and on which every answer takes years."""

    def __init__(self) -> None:
        self._years = 0.0

    def now(self) -> float:
        return super().now() + self._years

    async def answer(self, task: Task, choice: int) -> Answer:
        self._years += 1e9
        return Answer("at last", "stop", 1, 2)


def ids(lines: list[dict[str, Any]]) -> list[str]:
    return [line["custom_id"] for line in lines]


def test_all_lines_fail(desk: MakeDesk, matches_schema: Check) -> None:
    at = desk("errors=1,status=400")
    ended = at.run(4)
    assert (ended.status, ended.output_file_id, ended.request_counts.failed) == ("completed", None, 4)
    assert {line["response"]["status_code"] for line in at.read(ended.error_file_id)} == {400}
    assert "output_file_id" not in at.raw(ended).json()
    matches_schema("Batch", at.raw(ended).json())
    assert at.sim.ledger(0)["paid_calls"] == 0


def test_members_can_be_null_instead_of_left_out(desk: MakeDesk) -> None:
    at = desk("errors=1,nulls")
    ended = at.run(2)
    shown = at.raw(ended).json()
    assert [shown[name] for name in ("output_file_id", "errors", "usage", "metadata", "failed_at")] == [None] * 5
    assert (shown["error_file_id"] is None, shown["completed_at"] is None) == (False, False)


@pytest.mark.parametrize("word", ["output", "error"])
def test_a_file_without_lines_can_have_an_empty_id(desk: MakeDesk, word: str) -> None:
    at = desk(f"{word}-file=empty-id,errors={int(word == 'output')}")
    ended = at.run(2)
    assert (ended.status, getattr(ended, f"{word}_file_id")) == ("completed", "")
    assert len(at.read(ended.output_file_id)) + len(at.read(ended.error_file_id)) == 2


@pytest.mark.parametrize("word", ["output", "error"])
def test_a_file_without_lines_can_be_there(desk: MakeDesk, word: str) -> None:
    at = desk(f"{word}-file=empty-file,errors={int(word == 'output')}")
    ended = at.run(2)
    file = at.client.files.retrieve(getattr(ended, f"{word}_file_id"))
    assert (file.bytes, file.purpose) == (0, "batch_output")
    assert at.client.files.content(file.id).content == b""


def test_lines_can_be_doubled_missing_and_unknown(desk: MakeDesk) -> None:
    at = desk("duplicate=0.2,missing=0.3,unknown=2")
    ended = at.run(10)
    assert (ended.request_counts.completed, ended.error_file_id) == (10, None)
    lines = at.read(ended.output_file_id)
    assert len({line["id"] for line in lines}) == 9
    found = Counter(ids(lines))
    assert (found.pop("unknown-1"), found.pop("unknown-2")) == (1, 1)
    assert sorted(found.values()) == [1, 1, 1, 1, 1, 2, 2]
    assert set(found) <= {f"r-{number}" for number in range(10)}
    books = at.sim.ledger(0)
    assert (books["paid_calls"], books["paid_prompts"]) == (10, 10)


def test_unknown_lines_do_not_need_a_good_one(desk: MakeDesk) -> None:
    at = desk("errors=1,unknown=1")
    assert ids(at.read(at.run(2).output_file_id)) == ["unknown-1"]


@pytest.mark.parametrize("shuffle", [True, False])
def test_lines_are_shuffled_or_not(desk: MakeDesk, shuffle: bool) -> None:
    at = desk(f"shuffle={str(shuffle).lower()},in-progress=10m,window=30d")
    found = ids(at.read(at.run(30).output_file_id))
    assert (found == [f"r-{number}" for number in range(30)]) is not shuffle
    assert len(set(found)) == 30


@pytest.mark.parametrize("ending", ["expired", "cancelled"])
@pytest.mark.parametrize("listed", ["", ",list-undone=true", ",list-undone=false"])
def test_it_ends_before_all_is_done(desk: MakeDesk, matches_schema: Check, ending: str, listed: str) -> None:
    at = desk(f"ending={ending},done=0.3{listed}")
    ended = at.run(10)
    done, undone = at.read(ended.output_file_id), at.read(ended.error_file_id)
    is_listed = "true" in listed or (ending == "expired" and not listed)
    assert (ended.status, len(done), len(undone)) == (ending, 3, 7 if is_listed else 0)
    if is_listed:
        assert {(line["response"], line["error"]["code"]) for line in undone} == {(None, f"batch_{ending}")}
        assert sorted(ids(done + undone)) == sorted(f"r-{number}" for number in range(10))
    matches_schema("Batch", at.raw(ended).json())
    assert at.sim.ledger(0)["paid_calls"] == 3


def test_it_ends_before_anything_is_done(desk: MakeDesk) -> None:
    at = desk("ending=cancelled")
    ended = at.run(3)
    assert (ended.status, ended.output_file_id, ended.error_file_id) == ("cancelled", None, None)
    assert ended.cancelling_at is not None


def test_it_completes_with_lines_left_out(desk: MakeDesk) -> None:
    at = desk("done=0.5")
    ended = at.run(10)
    assert (ended.status, len(at.read(ended.output_file_id)), ended.error_file_id) == ("completed", 5, None)
    assert at.sim.ledger(0)["paid_calls"] == 5


def test_a_share_of_lines_fails_with_statuses_in_turn(desk: MakeDesk) -> None:
    at = desk("errors=0.4,status=429,status=503")
    ended = at.run(10)
    failed = at.read(ended.error_file_id)
    assert Counter(line["response"]["status_code"] for line in failed) == {429: 2, 503: 2}
    assert {line["response"]["body"]["error"]["code"] for line in failed} == {
        "rate_limit_exceeded",
        "server_is_overloaded",
    }
    assert (ended.request_counts.completed, ended.request_counts.failed) == (6, 4)
    assert at.sim.ledger(0)["paid_calls"] == 6


@pytest.mark.parametrize("form", ["null", "absent"])
def test_failed_lines_can_be_without_response(desk: MakeDesk, form: str) -> None:
    at = desk(f"errors=0.5,error-form={form}")
    failed = at.read(at.run(4).error_file_id)
    assert {line["error"]["code"] for line in failed} == {"server_error"}
    assert ["response" in line for line in failed] == [form == "null"] * 2
    assert all(line.get("response") is None for line in failed)


def test_failed_lines_can_be_in_the_output_file(desk: MakeDesk) -> None:
    at = desk("errors=0.5,status=500,errors-in=output-file")
    ended = at.run(4)
    statuses = [line["response"]["status_code"] for line in at.read(ended.output_file_id)]
    assert (sorted(statuses), ended.error_file_id) == ([200, 200, 500, 500], None)


def test_a_body_can_be_text(desk: MakeDesk, matches_schema: Check) -> None:
    at = desk("text-body=0.5")
    bodies = [line["response"]["body"] for line in at.read(at.run(4).output_file_id)]
    texts = [body for body in bodies if isinstance(body, str)]
    assert len(texts) == 2
    matches_schema("CreateChatCompletionResponse", httpx.Response(200, text=texts[0]).json())


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ("fail=invalid_json_line,line=2,line=5", [("invalid_json_line", 2), ("invalid_json_line", 5)]),
        ("fail=url_mismatch", [("url_mismatch", None)]),
    ],
)
def test_validation_fails_with_lines_or_without(
    desk: MakeDesk, matches_schema: Check, script: str, found: list[tuple[str, int | None]]
) -> None:
    at = desk(script)
    ended = at.run(2)
    assert ended.status == "failed"
    assert [(problem.code, problem.line) for problem in ended.errors.data] == found
    assert all(problem.message for problem in ended.errors.data)
    matches_schema("Batch", at.raw(ended).json())
    assert at.sim.ledger(0)["paid_calls"] == 0


def test_the_problems_can_be_a_bare_list(desk: MakeDesk) -> None:
    at = desk("fail=bad,line=3,problems-as=list", strict=False)
    shown = at.raw(at.run(2)).json()
    assert [(problem["code"], problem["line"]) for problem in shown["errors"]] == [("bad", 3)]


def test_a_script_can_say_that_the_token_limit_is_reached(desk: MakeDesk) -> None:
    at = desk("first=1,fail=token_limit_exceeded")
    [problem] = at.run(2).errors.data
    assert problem.code == "token_limit_exceeded"
    assert problem.message == (
        "Enqueued token limit reached for m in organization org-simulator. Limit: 2,000,000 enqueued tokens. Please "
        "try again once some in_progress batches have been completed."
    )
    assert at.run(2).status == "completed"


def test_tokens_that_wait_are_limited_for_each_model(desk: MakeDesk) -> None:
    at = desk("nth=1,stuck=in_progress", enqueued_tokens=150)
    first = at.wait(at.create(10), lambda seen: seen.status == "in_progress")
    second = at.run(10)
    assert (second.status, second.errors.data[0].code) == ("failed", "token_limit_exceeded")
    assert "Limit: 150 enqueued tokens." in second.errors.data[0].message
    assert at.wait(at.create_from(at.lines(10, model="other"))).status == "completed"
    at.client.batches.cancel(first.id)
    assert at.wait(first).status == "cancelled"
    assert at.run(10).status == "completed"
    assert at.run(40).status == "failed"
    assert at.sim.ledger(0)["batches"]["ended"] == {"cancelled": 1, "completed": 2, "failed": 2}


def test_it_is_stuck_beyond_its_window_until_it_is_cancelled(desk: MakeDesk) -> None:
    stages = ("validating", "in_progress", "finalizing")
    times = "window=30h,validating=0s,in-progress=0s"
    at = desk(
        *(f"nth={nth},stuck={stage},done=0.5,{times}" for nth, stage in enumerate(stages, 1)), f"stall-at=0.5,{times}"
    )
    batches = [at.wait(at.create(4), lambda seen, stage=stage: seen.status == stage) for stage in stages]
    # One with the same window that was created after them shows that the window is over.
    assert at.run(4).status == "expired"
    assert tuple(at.client.batches.retrieve(batch.id).status for batch in batches) == stages
    for batch, answered in zip(batches, (0, 2, 2), strict=True):
        at.client.batches.cancel(batch.id)
        ended = at.wait(batch)
        assert (ended.status, len(at.read(ended.output_file_id))) == ("cancelled", answered)


def test_it_can_be_stuck_in_cancelling(desk: MakeDesk) -> None:
    at = desk("stuck=in_progress,stuck=cancelling,cancelling=0s", "nth=2,ending=cancelled,cancelling=0s")
    batch = at.wait(at.create(2), lambda seen: seen.request_counts.completed == 2)
    assert at.client.batches.cancel(batch.id).status == "cancelling"
    at = desk("nth=1,ending=cancelled,stuck=cancelling,cancelling=0s")
    stuck = at.wait(at.create(2), lambda seen: seen.status == "cancelling")
    assert at.run(2).status == "completed"
    assert at.client.batches.retrieve(stuck.id).status == "cancelling"


def test_it_cannot_be_found_for_a_while_or_for_ever(desk: MakeDesk) -> None:
    at = desk("nth=1,not-found=1..2", "nth=2,not-found=2..")
    batch = at.create(1)
    assert [at.raw(batch).status_code for _ in range(4)] == [404, 404, 200, 200]
    with pytest.raises(openai.ConflictError):
        at.client.batches.cancel(at.wait(batch).id)
    gone = at.create(1)
    assert [at.raw(gone).status_code for _ in range(4)] == [200, 404, 404, 404]
    with pytest.raises(openai.NotFoundError):
        at.client.batches.cancel(gone.id)


def test_its_status_is_odd_for_a_while(desk: MakeDesk) -> None:
    at = desk("odd-status=2..3,odd-word=queued,stuck=validating")
    batch = at.create(1)
    assert [at.raw(batch).json()["status"] for _ in range(4)] == ["validating", "queued", "queued", "validating"]


def test_lists_leave_it_out_for_a_while(desk: MakeDesk) -> None:
    at = desk("nth=1,unlisted=1..2")
    batch, other = at.create(1), at.create(1)
    lists = [[item.id for item in at.client.batches.list()] for _ in range(3)]
    assert lists == [[other.id], [other.id], [other.id, batch.id]]


def test_scripts_match_by_metadata_number_and_times(desk: MakeDesk) -> None:
    at = desk("metadata=shard=3,first=1,ending=cancelled", "nth=3,ending=expired")
    tags = [at.run(1, metadata={"shard": shard}).status for shard in ("3", "3", "4", "3")]
    assert tags == ["cancelled", "completed", "expired", "completed"]
    at.sim.reset()
    assert at.run(1, metadata={"shard": "3"}).status == "cancelled"


def test_a_batch_does_not_expire_because_the_simulator_is_slow(desk: MakeDesk) -> None:
    assert desk(clock=Slow()).run(40).status == "completed"


def test_the_books_count_batches_and_what_was_paid(desk: MakeDesk) -> None:
    at = desk(
        "nth=1,fail=bad", "nth=2,ending=expired,done=0.5", "nth=3,errors=0.5", faults=["reset,on=batches,every=99"]
    )
    for _ in range(3):
        at.run(4, metadata={"shard": "0", "run": "a"})
    books = at.sim.ledger(0)
    assert books["batches"] == {
        "created": 3,
        "ended": {"completed": 1, "expired": 1, "failed": 1},
        "by_metadata": {"run": {"a": 3}, "shard": {"0": 3}},
    }
    assert (books["files_uploaded"], books["paid_calls"]) == (3, 4)
    assert books["paid_prompts"] + books["paid_again"] == 4
    at.run(4, metadata={"shard": "1"})
    at.client.chat.completions.create(model="m", messages=[{"role": "user", "content": "q r-0"}])
    books = at.sim.ledger(0)
    assert books["batches"]["by_metadata"]["shard"] == {"0": 3, "1": 1}
    assert (books["paid_calls"], books["paid_prompts"], books["paid_again"]) == (9, 4, 5)
    at.sim.reset()
    assert at.sim.ledger(0)["batches"] == {"created": 0, "ended": {}, "by_metadata": {}}
