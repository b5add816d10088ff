"""How many calls at once: against a model of a server that can do so many at once and lets the others wait."""

from __future__ import annotations

import heapq
import math
import random

import pytest

from promptmill._concurrency import Adaptive, Fixed
from promptmill._retry_budget import RetryBudget


def serve(
    concurrency: Adaptive,
    *,
    slots: int,
    seconds: float,
    latency: float = 1.0,
    sigma: float = 0.5,
    demand: int = 100_000,
    seed: int = 1,
    tokens: int = 100,
    start: float = 0.0,
) -> float:
    """Keep it busy for so long; returns answers a second. ``slots`` calls are worked on at once, in order of arrival;
    ``demand`` is how many calls there would ever be at once."""
    rng = random.Random(seed)
    free = [start] * slots
    running: list[tuple[float, float]] = []
    now, answers = start, 0
    while now < start + seconds:
        while len(running) < min(concurrency.limit, demand):
            begun = max(heapq.heappop(free), now)
            ended = begun + latency * rng.lognormvariate(0, sigma)
            heapq.heappush(free, ended)
            heapq.heappush(running, (ended, now))
        now, sent = running[0]
        concurrency.answered(now, len(running), now - sent, tokens)
        heapq.heappop(running)
        answers += 1
    return answers / seconds


@pytest.mark.parametrize("sigma", [0.05, 0.5, 0.8])
@pytest.mark.parametrize("seed", range(5))
def test_it_finds_what_a_server_can_do_at_once(sigma: float, seed: int) -> None:
    concurrency = Adaptive()
    serve(concurrency, slots=100, seconds=300, sigma=sigma, seed=seed)
    assert 100 <= concurrency.limit <= 400


def test_without_a_bound_it_grows_to_the_most_however_long_answers_are() -> None:
    concurrency = Adaptive(most=500)
    serve(concurrency, slots=5_000, seconds=1200, latency=10.0, sigma=0.8)
    assert concurrency.limit == 500


def test_it_does_not_grow_when_there_is_no_use_for_it() -> None:
    concurrency = Adaptive()
    serve(concurrency, slots=1_000, seconds=300, demand=10)
    assert concurrency.limit == 16
    assert concurrency.peak == 10


def test_answers_that_get_longer_do_not_shrink_it() -> None:
    concurrency = Adaptive(queues=True)
    serve(concurrency, slots=64, seconds=300)
    before = concurrency.limit
    serve(concurrency, slots=64, seconds=600, latency=10.0, tokens=1_000, start=1_000.0)
    assert concurrency.limit >= before


def test_first_bytes_that_come_late_shrink_it_where_calls_queue() -> None:
    concurrency = Adaptive(queues=True)
    serve(concurrency, slots=200, seconds=120, sigma=0.1)
    before = concurrency.limit
    serve(concurrency, slots=10, seconds=600, sigma=0.1, start=1_000.0)
    assert concurrency.limit <= before / 2


def test_lost_calls_of_one_moment_shrink_it_once() -> None:
    concurrency = Adaptive()
    for _ in range(30):
        concurrency.lost(5.0, 10.0)
    assert concurrency.limit == 11
    for _ in range(20):
        concurrency.lost(11.0, 12.0)
    assert concurrency.limit == 7
    for moment in range(20, 100):
        concurrency.lost(float(moment), float(moment))
    assert concurrency.limit == 1


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3])
def test_calls_lost_at_random_do_not_shrink_it_for_good(share: float) -> None:
    """A tenth of the calls that run into their time, however few there are at once, is no reason to make fewer."""
    rng = random.Random(1)
    concurrency = Adaptive(most=64)
    lowest_late = math.inf
    for step in range(40_000):
        moment = step / 100
        if rng.random() < share:
            concurrency.lost(moment - 1.0, moment)
        else:
            concurrency.answered(moment, concurrency.limit, None, None)
        if step > 5_000:
            lowest_late = min(lowest_late, concurrency.limit)
    assert concurrency.limit >= 16
    assert lowest_late >= 8


def test_what_the_user_says_is_what_there_is() -> None:
    fixed = Fixed(7)
    fixed.lost(0.0, 1.0)
    for moment in range(1000):
        fixed.answered(float(moment), 7, 1.0, 1)
    assert fixed.limit == 7


def test_retries_are_a_tenth_of_calls_and_a_few_always_may() -> None:
    budget = RetryBudget()
    retries = 0
    for _ in range(1_000):
        budget.sent(False)
        budget.ended(False)
        while budget.allows(1) and budget._left >= 1.0:
            budget.sent(True)
            retries += 1
            budget.ended(True)
    assert 100 <= retries <= 100 + 11
    for _ in range(3):
        assert budget.allows(1)
        budget.sent(True)
    assert not budget.allows(1)
    budget.ended(True)
    assert budget.allows(1)
