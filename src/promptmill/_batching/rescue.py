"""Working backwards from a deadline: when must a batch be cancelled, so that its rest can still go another way?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from promptmill.batch import BatchLimits
from promptmill.clock import Clock

SAFETY: Final = 1.5
"""How many times longer than expected the other way may take: it is throttled, or others use it too."""

LEAST_S: Final = 2.0
"""Seconds kept for the other way in any case."""

MOST_SHARE: Final = 0.5
"""The other way gets no more than this share of the time there was at first: where it would need more, nobody knows
better than to give batches the other half."""

SHARE_FOR_CANCELLING: Final = 0.25
"""A provider may take its time to cancel, but no more than this share of what was left when the batch began."""

SecondsFor: TypeAlias = Callable[[tuple[str, ...], int, int], float]
"""How long so many requests with so many tokens take on a chain of providers."""

Waiting: TypeAlias = Callable[[], tuple[int, int]]
"""The requests that would all have to go another way, and their tokens."""


class Rescue:
    """Knows the last moment for everything that has a deadline (seconds since the epoch)."""

    def __init__(self, clock: Clock, limits: BatchLimits, seconds_for: SecondsFor, waiting: Waiting) -> None:
        self._clock = clock
        self._limits = limits
        self._seconds_for = seconds_for
        self._waiting = waiting
        self._given: dict[float, float] = {}
        """The seconds there were for each deadline when it was first thought of."""
        self._over: set[float] = set()
        """Deadlines that the last moment has come for: nothing more is put into batches for them."""

    def is_near(self, chain: tuple[str, ...], due: float | None) -> bool:
        """Whether no more than the time for the other way is left."""
        return due is not None and (due in self._over or due - self._clock.wall() <= self._needed(chain, due))

    async def wait(self, chain: tuple[str, ...], due: float) -> None:
        """Return when a batch has to be cancelled."""
        cancelling = min(self._limits.cancel_s, SHARE_FOR_CANCELLING * max(due - self._clock.wall(), 0.0))
        await self._until(chain, due, cancelling)
        self._over.add(due)

    async def wait_longer(self, chain: tuple[str, ...], due: float) -> None:
        """Return when there is no more time to wait for the end of a cancelled batch."""
        await self._until(chain, due, 0.0)

    async def _until(self, chain: tuple[str, ...], due: float, kept: float) -> None:
        while (left := due - kept - self._clock.wall() - self._needed(chain, due)) > 0:
            # What the other way needs changes while it is used, so the moment is looked at again and again.
            await self._clock.sleep(max(min(left, 60.0) / 2, 0.05))

    def _needed(self, chain: tuple[str, ...], due: float) -> float:
        given = self._given.setdefault(due, max(due - self._clock.wall(), 0.0))
        requests, tokens = self._waiting()
        return min(SAFETY * self._seconds_for(chain[1:], requests, tokens) + LEAST_S, MOST_SHARE * given)
