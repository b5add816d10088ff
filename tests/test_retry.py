"""The heap of requests that wait for their next attempt."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from promptmill._retry import BackoffHeap

DUE = st.floats(0, 100) | st.integers(0, 5).map(float)


@given(st.lists(DUE, max_size=30))
def test_items_come_in_the_order_they_are_due_ties_in_the_order_they_came(dues: list[float]) -> None:
    heap: BackoffHeap[int] = BackoffHeap()
    for number, due in enumerate(dues):
        heap.push(number, due)
    assert len(heap) == len(dues)
    expected = [number for _, number in sorted((due, number) for number, due in enumerate(dues))]
    assert [heap.pop_due(1_000) for _ in dues] == expected
    assert heap.pop_due(1_000) is None


@given(st.lists(DUE, max_size=30), DUE)
def test_only_what_is_due_is_given_out(dues: list[float], now: float) -> None:
    heap: BackoffHeap[float] = BackoffHeap()
    for due in dues:
        heap.push(due, due)
    taken = []
    while (item := heap.pop_due(now)) is not None:
        taken.append(item)
    assert taken == sorted(due for due in dues if due <= now)
    later = [due for due in dues if due > now]
    assert len(heap) == len(later)
    assert heap.next_due == min(later, default=None)


def test_items_are_never_compared() -> None:
    heap: BackoffHeap[object] = BackoffHeap()
    first, second = object(), object()
    heap.push(first, 1.0)
    heap.push(second, 1.0)
    assert heap.pop_due(1.0) is first
    assert heap.pop_due(1.0) is second
    assert heap.next_due is None
