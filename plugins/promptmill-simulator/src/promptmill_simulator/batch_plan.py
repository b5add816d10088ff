"""Which script a new batch gets."""

from __future__ import annotations

from collections import Counter

import msgspec

from promptmill_simulator.batch_script import USUAL_WAY, BatchScript, BatchTimes
from promptmill_simulator.options import SimulatorOptions


class BatchPlan(msgspec.Struct, frozen=True):
    """How a batch is to go."""

    times: BatchTimes
    script: BatchScript


class BatchPlans:
    """Makes the plans of batches in the order in which they are created."""

    def __init__(self, options: SimulatorOptions) -> None:
        self._options = options
        self.reset()

    def reset(self) -> None:
        """Count from the start: the next batch is the first one again."""
        self._made = 0
        self._matched: Counter[int] = Counter()

    def next(self, metadata: dict[str, str]) -> BatchPlan:
        """The plan of a new batch with this metadata."""
        self._made += 1
        for place, script in enumerate(self._options.scripts):
            spent = script.first is not None and self._matched[place] >= script.first
            if not spent and script.matches(self._made, metadata):
                self._matched[place] += 1
                return BatchPlan(script.times or self._options.batch, script)
        return BatchPlan(self._options.batch, USUAL_WAY)
