"""A plain cap on calls a second, evenly spaced."""

from __future__ import annotations

from aiolimiter import AsyncLimiter


class RateCap:
    """Lets one call go every ``1 / calls_per_second`` seconds, without a burst."""

    def __init__(self, calls_per_second: float) -> None:
        self._limiter = AsyncLimiter(1, 1 / calls_per_second)

    async def acquire(self) -> None:
        """Wait for the next call's turn."""
        await self._limiter.acquire()
