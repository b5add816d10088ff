"""The requests of a lane that wait: for their first attempt, for another one, or for their turn again."""

from __future__ import annotations

from promptmill._queue import LaneQueue, Queued
from promptmill._retry import BackoffHeap
from promptmill._retry_budget import RetryBudget
from promptmill._work import Work

BACKOFF_AHEAD = 4
"""Requests that may wait for another attempt, for each call at once; with more, no new one is begun. An outage then
costs as many calls as there may be at once, not as many as there are requests, and memory stays bounded."""

LEAST_AHEAD = 64

MOST_REFUSED = 2048
"""Requests that may wait for as long as a refusal told them to. They are no sign of an outage, for which their whole
key would rest, and a server that tells single calls to wait for a minute must not hold up the others."""


class Waiting:
    """``memory`` requests of each priority are kept in memory, the rest on disk.

    Raises:
        StorageError: the disk that holds the rest is full or broken.
    """

    def __init__(self, memory: int) -> None:
        self.retries = RetryBudget()
        self._queue = LaneQueue(memory)
        self._backoff: BackoffHeap[Work] = BackoffHeap()
        self._again: BackoffHeap[Work] = BackoffHeap()
        """Requests that go first: throttled, never sent, or handed over. They are not counted as retries."""

    @property
    def new(self) -> int:
        """Requests that wait for their first attempt."""
        return len(self._queue)

    @property
    def retrying(self) -> int:
        """Requests that wait for another one."""
        return len(self._backoff) + len(self._again)

    @property
    def next_due(self) -> float | None:
        """When the first of those that retry is due; None without any."""
        one, other = self._again.next_due, self._backoff.next_due
        return other if one is None or (other is not None and other < one) else one

    def put(self, queued: Queued) -> None:
        self._queue.append(queued)

    def put_first(self, work: Work, now: float, concurrency: int) -> None:
        """Take over a request that has waited elsewhere. When many wait already it is queued, where the disk holds what
        memory should not."""
        if self.retrying < _most_retrying(concurrency):
            self._again.push(work, now)
        else:
            self._queue.append(Queued(work.request, work.chain, work.attempts, 0, work.due))

    def retry(self, work: Work, due: float) -> None:
        (self._again if work.free else self._backoff).push(work, due)

    def take(self, now: float, concurrency: int) -> Work | None:
        """The request whose turn it is; None when none may go now."""
        retrying = self.retrying
        if retrying:  # for nearly all requests nothing does, and this is asked for each
            work = self._again.pop_due(now)
            if work is None and self.retries.allows(concurrency):
                work = self._backoff.pop_due(now)
            if work is not None:
                return work
            if len(self._backoff) >= _most_retrying(concurrency) or len(self._again) >= MOST_REFUSED:
                return None
        queued = self._queue.popleft()
        if queued is None:
            return None
        return Work(
            request=queued.request,
            chain=queued.chain,
            attempts=queued.attempts,
            lane_attempts=queued.lane_attempts,
            due=queued.due,
        )

    def close(self) -> None:
        self._queue.close()

    def __len__(self) -> int:
        return self.new + self.retrying


def _most_retrying(concurrency: int) -> int:
    return max(BACKOFF_AHEAD * concurrency, LEAST_AHEAD)
