"""Requests that ask the same share one answer."""

from __future__ import annotations

from collections import Counter
from typing import Any

import anyio
import pytest

from promptmill._twins import Twins, is_shared, short_digest
from promptmill.jsontext import encode
from promptmill.models import Request, Result
from promptmill.testing import request, result


def cold(prompt: str, index: int, **fields: Any) -> Request:
    return request(prompt, id=f"r{index}", index=index, params={"temperature": 0}, **fields)


def twins_of(*requests: Request, dedupe: bool | None = None) -> Twins:
    counts = Counter(short_digest(one) for one in requests)
    return Twins({digest for digest, count in counts.items() if count > 1}, dedupe)


@pytest.mark.parametrize(
    ("temperature", "dedupe", "shared"),
    [(0, None, True), (0.0, None, True), (0.7, None, False), (None, None, False), (0.7, True, True), (0, False, False)],
)
def test_only_answers_that_would_repeat_are_shared_unless_asked(
    temperature: float | None, dedupe: bool | None, shared: bool
) -> None:
    params = {} if temperature is None else {"temperature": temperature}
    assert is_shared(request("x", params=params), dedupe) is shared


def test_what_occurs_once_is_no_candidate() -> None:
    assert not twins_of(cold("a", 0), cold("b", 1))
    assert twins_of(cold("a", 0), cold("b", 1), cold("a", 2))


async def test_followers_wait_for_the_first_and_share_its_answer() -> None:
    requests = [cold("a", 0), cold("a", 1), cold("b", 2), cold("a", 3, meta={"k": 1})]
    twins = twins_of(*requests)
    assert twins.take(requests[0]) is requests[0]
    assert twins.take(requests[1]) is None
    assert twins.take(requests[2]) is requests[2]
    assert twins.take(requests[3]) is None
    assert twins.waiting == 2
    assert list(twins.ready()) == []
    twins.request_finished(result("the answer", id="r0", index=0, attempts=2, latency_s=1.0))
    with anyio.fail_after(5):
        await twins.news()
    pairs = list(twins.ready())
    assert [request for request, _ in pairs] == [requests[1], requests[3]]
    shared = [one for _, one in pairs]
    assert [(one.id, one.index, one.text, one.attempts, one.latency_s) for one in shared] == [
        ("r1", 1, "the answer", 0, None),
        ("r3", 3, "the answer", 0, None),
    ]
    assert shared[1].meta == {"k": 1}
    assert shared[0].usage.input_tokens == 0
    assert twins.waiting == 0


def test_who_comes_after_the_answer_gets_it_at_once() -> None:
    first, later = cold("a", 0), cold("a", 1)
    twins = twins_of(first, later)
    twins.take(first)
    twins.request_finished(result("the answer", id="r0", index=0))
    taken = twins.take(later)
    assert isinstance(taken, Result)
    assert (taken.id, taken.text) == ("r1", "the answer")


def test_what_routes_go_by_keeps_requests_apart() -> None:
    urgent, bulk = cold("a", 0, priority="urgent"), cold("a", 1, priority="bulk")
    assert not twins_of(urgent, bulk)


def test_an_earlier_process_has_the_answer() -> None:
    from promptmill._journal import request_digest

    first, later = cold("a", 0), cold("a", 1)
    twins = twins_of(first, later)
    twins.remember([(request_digest(first), encode(result("the answer", id="r0", index=0)))])
    taken = twins.take(later)
    assert isinstance(taken, Result)
    assert taken.text == "the answer"
