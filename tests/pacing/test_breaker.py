"""Leaving a provider alone that fails, and finding out that it is back."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptmill._breaker import Breaker


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(16):
        breaker.failed(breaker.sent(), now)
    return breaker


def test_it_opens_when_16_of_the_last_20_calls_failed() -> None:
    breaker = Breaker()
    for _ in range(15):
        assert not breaker.failed(breaker.sent(), 0.0)
    for _ in range(4):
        breaker.succeeded(breaker.sent())
    assert breaker.closed
    assert breaker.failed(breaker.sent(), 0.0)
    assert not breaker.closed
    assert 2.0 <= breaker.wait(0.0) <= 2.2


def test_failures_that_come_sooner_than_answers_do_not_open_it() -> None:
    breaker = Breaker()
    for _ in range(49):
        assert not breaker.failed(breaker.sent(), 0.0, 50)
    breaker.succeeded(breaker.sent())
    for number in range(50):
        assert breaker.failed(breaker.sent(), 0.0, 50) == (number == 49)


def test_random_failures_of_three_in_ten_do_not_open_it() -> None:
    import random

    rng, breaker = random.Random(1), Breaker()
    for _ in range(100_000):
        if rng.random() < 0.3:
            breaker.failed(breaker.sent(), 0.0)
        else:
            breaker.succeeded(breaker.sent())
        assert breaker.closed


def test_one_then_two_then_four_calls_find_out_whether_it_is_back() -> None:
    breaker = opened()
    now = breaker.until
    for at_once in (1, 2, 4):
        probes = []
        while breaker.wait(now) == 0.0:
            probes.append(breaker.sent())
        assert probes == [True] * at_once
        assert breaker.wait(now) == math.inf
        closed = [breaker.succeeded(probe) for probe in probes]
    assert closed == [False, False, False, True]
    assert breaker.closed
    assert breaker.wait(now) == 0.0


def test_each_rest_is_twice_as_long_up_to_a_minute() -> None:
    breaker = opened()
    rests, now = [], 0.0
    for _ in range(8):
        rests.append(breaker.wait(now))
        now = breaker.until
        assert breaker.failed(breaker.sent(), now)
    for rest, wanted in zip(rests, [2, 4, 8, 16, 32, 60, 60, 60], strict=True):
        assert wanted <= rest <= 1.1 * wanted


def test_calls_sent_before_it_opened_change_nothing() -> None:
    breaker = opened()
    until = breaker.until
    assert not breaker.failed(False, 1.0)
    assert not breaker.succeeded(False)
    assert breaker.until == until
    assert not breaker.closed


@given(st.lists(st.tuples(st.sampled_from(["send", "ok", "fail", "forget"]), st.floats(0, 100)), max_size=200))
def test_it_never_waits_for_calls_when_none_is_under_way(steps: list[tuple[str, float]]) -> None:
    breaker, now = Breaker(), 0.0
    under_way: list[bool] = []
    for step, pause in steps:
        now += pause
        if step == "send":
            if breaker.wait(now) == 0.0:
                under_way.append(breaker.sent())
        elif under_way:
            probe = under_way.pop(0)
            if step == "ok":
                breaker.succeeded(probe)
            elif step == "fail":
                breaker.failed(probe, now)
            else:
                breaker.forget(probe)
        assert breaker.wait(now) < math.inf or any(under_way)


@pytest.mark.parametrize("now", [0.0, 1.99])
def test_while_it_is_open_nothing_goes(now: float) -> None:
    assert 0 < opened().wait(now) < math.inf
