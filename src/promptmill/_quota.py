"""One pacer over all limits of a provider: GCRA with a small burst and an empty start.

For each dimension one number is kept, the theoretical arrival time (TAT); the wait for a request follows in closed
form and all dimensions are charged together. A request larger than the burst goes alone and is paid off afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from promptmill.clock import Clock
from promptmill.models import TokenEstimate

TARGET_UTILISATION: Final = 0.99
"""The share of a limit that is used: 1 % is left for the provider's own rounding."""

BURST_SECONDS: Final = 1.0
"""What may go at once, in seconds of the rate. A full minute's burst gets a whole minute of 429s at the start."""

_WINDOWS: Final = {"rpm": 60.0, "rpd": 86400.0, "tpm": 60.0, "tpd": 86400.0, "itpm": 60.0, "otpm": 60.0}

_REQUESTS: Final = frozenset({"rpm", "rpd"})
_INPUT: Final = frozenset({"tpm", "tpd", "itpm"})
_OUTPUT: Final = frozenset({"tpm", "tpd", "otpm"})


class _Dimension:
    """GCRA of one limit: ``interval`` seconds a unit."""

    __slots__ = ("arrival", "burst", "interval", "limit", "name")

    def __init__(self, name: str, limit: float, now: float) -> None:
        self.name = name
        self.limit = limit
        self.interval = _WINDOWS[name] / (limit * TARGET_UTILISATION)
        self.burst = BURST_SECONDS
        # Empty at the start: after a crash nobody knows what the last minute took.
        self.arrival = now + self.burst

    def cost(self, estimate: TokenEstimate) -> float:
        if self.name in _REQUESTS:
            return 1.0
        tokens = 0
        if self.name in _INPUT:
            tokens += estimate.input_tokens
        if self.name in _OUTPUT:
            tokens += estimate.output_tokens or 0
        return float(tokens)

    def wait(self, cost: float, now: float) -> float:
        weight = cost * self.interval
        return self.arrival + weight - max(self.burst, weight) - now

    def charge(self, cost: float, now: float) -> None:
        self.arrival = max(self.arrival, now) + cost * self.interval


class Pacer:
    """Keeps to the limits given by name (``rpm``, ``rpd``, ``tpm``, ``tpd``, ``itpm``, ``otpm``)."""

    def __init__(self, limits: Mapping[str, float], clock: Clock) -> None:
        self._clock = clock
        self._dimensions = [_Dimension(name, limit, clock.now()) for name, limit in limits.items()]

    def oversized(self, estimate: TokenEstimate) -> str | None:
        """The name of a limit this request is larger than, so that waiting would never help."""
        for dimension in self._dimensions:
            if dimension.name not in _REQUESTS and dimension.cost(estimate) > dimension.limit:
                return dimension.name
        return None

    def wait(self, estimate: TokenEstimate) -> float:
        """Seconds until this request may go; 0 when it may go now."""
        now = self._clock.now()
        return max([0.0, *(d.wait(d.cost(estimate), now) for d in self._dimensions)])

    def charge(self, estimate: TokenEstimate) -> None:
        """Count a request that goes now against every limit."""
        now = self._clock.now()
        for dimension in self._dimensions:
            dimension.charge(dimension.cost(estimate), now)

    def seconds_for(self, requests: int, each: TokenEstimate) -> float:
        """How long so many requests like ``each`` take at the pace of the slowest limit."""
        now = self._clock.now()
        return max([0.0, *(d.arrival - now + requests * d.cost(each) * d.interval for d in self._dimensions)])

    def owed(self) -> dict[str, float]:
        """Seconds until what was charged is paid off, by limit: how long a sole user of it needs."""
        now = self._clock.now()
        return {d.name: max(d.arrival - d.burst - now, 0.0) for d in self._dimensions}

    def __bool__(self) -> bool:
        return bool(self._dimensions)
