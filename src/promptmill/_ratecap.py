"""A plain cap on calls a second, evenly spaced."""

from __future__ import annotations

from typing import Final

from aiolimiter import AsyncLimiter

_TURN_S: Final = 0.01
"""Timers come some milliseconds late. What is missed meanwhile is caught up with, as far as it is no older than this:
without that, 1,000 calls a second come to half of them."""


class RateCap:
    """Lets one call go every ``1 / calls_per_second`` seconds, or, of more than a hundred a second, as many at once as
    belong into a hundredth of a second."""

    def __init__(self, calls_per_second: float) -> None:
        at_once = max(1.0, calls_per_second * _TURN_S)
        self._limiter = AsyncLimiter(at_once, at_once / calls_per_second)

    async def acquire(self) -> None:
        """Wait for the next call's turn."""
        await self._limiter.acquire()
