"""What all lanes of an engine have under way, added up."""

from __future__ import annotations

from promptmill._binding import Binding
from promptmill._channel import Traffic
from promptmill._work import AnyLane


class LaneTotals:
    """Of ``lanes``, by the names of their providers."""

    lanes: dict[str, AnyLane]

    @property
    def away(self) -> int:
        """Requests in batches that a provider has."""
        return sum(lane.away for lane in self.lanes.values())

    @property
    def batches(self) -> int:
        """Batches that a provider has."""
        return sum(lane.batches for lane in self.lanes.values())

    @property
    def in_flight(self) -> int:
        """Calls being made now."""
        return sum(lane.in_flight for lane in self.lanes.values())

    @property
    def concurrency(self) -> int:
        """Calls that may be in flight now."""
        return sum(lane.concurrency for lane in self.lanes.values())

    @property
    def rests_for(self) -> float:
        """Seconds that the provider which rests the longest still does."""
        return max(lane.rests_for for lane in self.lanes.values())

    @property
    def retrying(self) -> int:
        """Requests waiting for another attempt."""
        return sum(lane.retrying for lane in self.lanes.values())

    def bindings(self) -> dict[str, Binding]:
        """Why each provider gets no more calls just now, where it gets none."""
        return {name: binding for name, lane in self.lanes.items() if (binding := lane.binding) is not None}

    def traffic(self) -> dict[str, Traffic]:
        """How each provider was used so far."""
        return {name: lane.traffic for name, lane in self.lanes.items()}
