"""Every kind of limit, against what it is meant to be."""

from __future__ import annotations

import math
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptmill_simulator.meters import METERS, LimitKind, Meter, Taken

KINDS = st.sampled_from(sorted(METERS))
GAPS = st.lists(st.floats(0, 40), max_size=60)
START = 1_700_000_000.0
"""20 seconds into a minute."""


def meter(kind: LimitKind, limit: float = 60, burst: float = 60, now: float = 0.0) -> Meter:
    return METERS[kind](limit, burst, now)


def filled(made: Meter, now: float) -> int:
    """Take one after the other until there is no more; how many there were."""
    count = 0
    while made.wait_for(1, now) == 0:
        made.take(1, now)
        count += 1
    return count


def test_there_is_a_meter_for_every_kind() -> None:
    assert set(METERS) == set(get_args(LimitKind))


@pytest.mark.parametrize(
    ("kind", "limit", "at_once", "capacity"),
    [
        ("bucket", 120, 120, 120),
        ("bucket-empty", 120, 0, 120),
        ("second", 120, 2, 2),
        ("second", 6, 1, 1),
        ("minute", 120, 120, 120),
        ("minute", 2.5, 2, 2),
        ("window", 120, 120, 120),
        ("window", 2.5, 2, 2),
    ],
)
def test_what_is_there_at_first_and_at_most(kind: LimitKind, limit: float, at_once: int, capacity: float) -> None:
    made = meter(kind, limit)
    assert made.wait_for(capacity + 1, 0.0) == math.inf
    assert (filled(made, 0.0), made.capacity, made.limit) == (at_once, capacity, limit)


@pytest.mark.parametrize(
    ("kind", "wait", "reset"),
    [("bucket", 1, 60), ("bucket-empty", 1, 60), ("second", 1, 1), ("minute", 40, 40), ("window", 60, 60)],
)
def test_when_there_is_one_again_and_when_all(kind: LimitKind, wait: float, reset: float) -> None:
    made = meter(kind, now=START)
    filled(made, START)
    assert (made.remaining(START), made.wait_for(1, START), made.reset_in(START)) == (0, wait, reset)
    assert (made.remaining(START + reset), made.reset_in(START + reset)) == (made.capacity, 0)


@pytest.mark.parametrize(("kind", "burst"), [("bucket", 2), ("bucket-empty", 2), ("second", 60)])
def test_buckets_refill_evenly_and_hold_no_more_than_they_can(kind: LimitKind, burst: float) -> None:
    made = meter(kind, 120, burst)
    filled(made, 0.0)
    assert [filled(made, now) for now in (0.25, 0.5, 1.0, 1.5)] == [0, 1, 1, 1]
    assert filled(made, 1000.0) == made.capacity


def test_a_minute_ends_with_the_minute_of_the_clock_and_not_earlier() -> None:
    made, edge = meter("minute", 3, now=START), START + 40
    before = math.nextafter(edge, 0)
    assert (filled(made, before), filled(made, before)) == (3, 0)
    assert 0 < made.wait_for(1, before) < 1e-6
    assert (filled(made, edge), filled(made, edge + 59.999), filled(made, edge + 60)) == (3, 0, 3)


def test_a_clock_set_back_begins_another_minute() -> None:
    made = meter("minute", 3, now=START)
    filled(made, START)
    assert filled(made, START - 60) == 3


def test_a_window_frees_what_was_taken_a_minute_ago() -> None:
    made = meter("window", 10)
    for now, amount in ((0, 4), (10, 1), (30, 5)):
        made.take(amount, now)
    assert [made.wait_for(amount, 40) for amount in (1, 4, 5, 6, 10)] == [20, 20, 30, 50, 50]
    assert [made.remaining(now) for now in (59, 60, 69, 70, 89, 90)] == [0, 4, 4, 5, 5, 10]


@given(st.lists(st.tuples(st.integers(0, 2**12), st.integers(1, 8)), max_size=80), st.integers(1, 20))
def test_a_window_lets_in_what_a_look_at_all_of_the_past_would(steps: list[tuple[int, int]], limit: int) -> None:
    made, now, past = meter("window", limit), 0.0, list[tuple[float, int]]()
    for gap, amount in steps:
        now += gap / 64  # exact as a float
        used = sum(size for at, size in past if now - at < 60)
        assert made.remaining(now) == limit - used
        assert (made.wait_for(amount, now) == 0) is (used + amount <= limit)
        if used + amount <= limit:
            made.take(amount, now)
            past.append((now, amount))
    for start, _ in past:
        assert sum(size for at, size in past if start <= at < start + 60) <= limit


@given(KINDS, GAPS, st.integers(1, 300), st.floats(0, 1e9), st.data())
def test_a_wait_is_just_long_enough(
    kind: LimitKind, gaps: list[float], limit: int, start: float, data: st.DataObject
) -> None:
    made, now = meter(kind, limit, 20, start), start
    amounts = st.integers(1, max(1, math.floor(made.capacity)))
    for gap in gaps:
        now += gap
        amount = data.draw(amounts)
        if (wait := made.wait_for(amount, now)) > 0:
            # Looking does not change what is there; a little earlier it is not enough.
            assert made.wait_for(amount, now) == wait
            if wait > 1e-3:
                assert made.wait_for(amount, now + wait * 0.999) > 0
            now += wait
            assert made.wait_for(amount, now) == 0
        made.take(amount, now)


@given(GAPS, st.integers(1, 50), st.floats(0, 1e9))
def test_no_minute_of_the_clock_has_more_than_the_limit(gaps: list[float], limit: int, start: float) -> None:
    made, now, counts = meter("minute", limit, now=start), start, dict[int, int]()
    for gap in gaps:
        now += gap / 10
        let_in = made.wait_for(1, now) == 0
        assert let_in is (counts.get(int(now // 60), 0) < limit)
        if let_in:
            made.take(1, now)
            counts[int(now // 60)] = counts.get(int(now // 60), 0) + 1


@pytest.mark.parametrize("kind", sorted(METERS))
@pytest.mark.parametrize(("used", "left"), [(10, 70), (90, -10), (0, 80)])
def test_corrections_go_both_ways(kind: LimitKind, used: float, left: float) -> None:
    made = meter(kind, 80 * 60 if kind == "second" else 80)
    start = 60.0 if kind == "bucket-empty" else 0.0
    taken = made.take(50, start)
    made.correct(taken, used, start)
    assert made.remaining(start) == left
    assert (made.wait_for(1, start) > 0) is (left < 1)


@pytest.mark.parametrize(
    ("kind", "now", "left"),
    [
        ("bucket", 30.0, 100.0),
        ("minute", 59.0, 90.0),
        ("minute", 60.0, 100.0),
        ("minute", 61.0, 100.0),
        ("window", 59.0, 90.0),
        ("window", 60.0, 100.0),
        ("window", 61.0, 100.0),
    ],
)
def test_corrections_count_only_where_the_taking_does(kind: LimitKind, now: float, left: float) -> None:
    made = meter(kind, 100)
    taken = made.take(50, 0.0)
    made.correct(taken, 10, now)
    assert made.remaining(now) == left


def test_a_minute_owes_nothing_to_the_one_before() -> None:
    made = meter("minute", 100)
    old = made.take(10, 59.0)
    made.take(30, 60.0)
    made.correct(old, 90, 61.0)
    assert made.remaining(61.0) == 70


def test_a_corrected_entry_of_a_window_ends_when_it_would_have() -> None:
    made = meter("window", 100)
    first, second = made.take(60, 0.0), made.take(40, 20.0)
    made.correct(first, 10, 30.0)
    assert (made.remaining(30.0), made.wait_for(60, 30.0), made.reset_in(30.0)) == (50, 30, 50)
    assert made.remaining(60.0) == 60
    made.correct(second, 0, 60.0)
    assert (made.remaining(60.0), made.reset_in(60.0)) == (100, 0)


@given(KINDS, st.lists(st.tuples(st.floats(0, 20), st.integers(1, 40), st.integers(0, 80)), max_size=40))
def test_corrections_never_grant_more_than_there_is(kind: LimitKind, steps: list[tuple[float, int, int]]) -> None:
    made, now, open_charges = meter(kind, 100), 0.0, list[tuple[Taken, int]]()
    for gap, amount, used in steps:
        now += gap
        open_charges.append((made.take(amount, now), used))
        if len(open_charges) > 3:
            made.correct(*open_charges.pop(0), now)
        assert made.remaining(now) <= made.capacity
        assert made.reset_in(now) >= 0
    now += 10_000
    assert made.remaining(now) == made.capacity
