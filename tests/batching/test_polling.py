"""Waits between two looks at a batch."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from promptmill._batching import Intervals
from promptmill._batching.polling import SPREAD


@given(st.floats(0.01, 900), st.integers(0, 2**32))
def test_waits_grow_to_a_bound_and_never_leave_their_spread(first: float, seed: int) -> None:
    intervals = Intervals(first, longest=300, chance=random.Random(seed))
    waits = [intervals.next() for _ in range(60)]
    assert first * (1 - SPREAD) <= waits[0] <= first * (1 + SPREAD)
    most = max(first, 300)
    assert all(first * (1 - SPREAD) <= wait <= most * (1 + SPREAD) for wait in waits)
    assert waits[-1] >= most * (1 - SPREAD)
    intervals.restart()
    assert intervals.next() <= first * (1 + SPREAD)


def test_two_batches_are_not_looked_at_in_step() -> None:
    one, other = Intervals(30), Intervals(30)
    assert [one.next() for _ in range(5)] != [other.next() for _ in range(5)]
