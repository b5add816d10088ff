"""Joining lines to requests: each request gets one line, whatever comes, in whatever order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptmill._batching import Collector, wire_id

TAG = "20261123-024436-abcdef-0123456789"


@given(st.integers(1, 40), st.data())
def test_any_lines_in_any_order(count: int, data: st.DataObject) -> None:
    own = st.integers(0, count - 1).map(lambda number: wire_id(TAG, number))
    foreign = st.one_of(
        st.text(max_size=20),
        st.integers(count, 10**12).map(lambda number: wire_id(TAG, number)),
        st.integers(0, count).map(lambda number: wire_id("another", number)),
    )
    collector = Collector(TAG, count)
    taken: set[int] = set()
    duplicates = unknown = 0
    for id_ in data.draw(st.lists(st.one_of(own, foreign), max_size=100)):
        mine = {wire_id(TAG, number): number for number in range(count)}.get(id_)
        number = collector.take(id_)
        if mine is None:
            unknown += 1
            assert number is None
        elif mine in taken:
            duplicates += 1
            assert number is None
        else:
            taken.add(mine)
            assert number == mine
    assert (collector.taken, collector.duplicates, collector.unknown) == (len(taken), duplicates, unknown)
    assert list(collector.missing()) == sorted(set(range(count)) - taken)


@pytest.mark.parametrize("digits", ["", "00", "01", "+1", "-1", " 1", "1 ", "1_0", "\u0661", "\u00b2", "9" * 5000])
def test_only_the_very_id_that_was_sent_counts(digits: str) -> None:
    collector = Collector(TAG, 20)
    assert collector.take(f"{TAG}-{digits}") is None
    assert collector.unknown == 1
    assert collector.taken == 0
