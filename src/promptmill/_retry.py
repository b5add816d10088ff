"""Where a request waits for its next attempt: a heap by due time that holds no slot and no timer of its own."""

from __future__ import annotations

import heapq
import itertools
from typing import Generic, TypeVar

T = TypeVar("T")


class BackoffHeap(Generic[T]):
    """Items by the time they are due."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self._order = itertools.count()

    def push(self, item: T, due: float) -> None:
        heapq.heappush(self._heap, (due, next(self._order), item))

    def pop_due(self, now: float) -> T | None:
        """The item that has been due the longest, or None when none is."""
        if self._heap and self._heap[0][0] <= now:
            return heapq.heappop(self._heap)[2]
        return None

    @property
    def next_due(self) -> float | None:
        """When the first item is due; None when the heap is empty."""
        return self._heap[0][0] if self._heap else None

    def __len__(self) -> int:
        return len(self._heap)
