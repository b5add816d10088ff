"""What a request will be charged in tokens: the estimate, corrected by what the provider has reported so far."""

from __future__ import annotations

from typing import Final

from promptmill.models import TokenEstimate, Usage

_MEMORY: Final = 0.99
"""The weight of all earlier requests against the next one: the last hundred count."""

_TRUST: Final = 3.0
"""How many requests the offline estimate is worth before any were reported."""

_LEAST, _MOST = 0.1, 10.0

_HIGH: Final = 0.9
"""The share of answers that are expected to be no longer than the estimate of the output."""

_STEP: Final = 0.2

FIRST_OUTPUT: Final = 256
"""Tokens of output a request is taken for before any answer has come, where it has no bound of its own."""


class TokenBook:
    """Learns how far estimates are from what is reported."""

    __slots__ = ("_estimated", "_output", "_reported")

    def __init__(self) -> None:
        self._estimated = 0.0
        self._reported = 0.0
        self._output: float | None = None

    @property
    def ratio(self) -> float:
        """Reported input tokens for each estimated one."""
        if not self._estimated:
            return 1.0
        return min(max(self._reported / self._estimated, _LEAST), _MOST)

    def input(self, estimate: TokenEstimate) -> float:
        return estimate.input_tokens * self.ratio

    def output(self, estimate: TokenEstimate, settles: bool) -> float:
        """What is charged for the answer at admission: its bound where that is kept, else what most answers take."""
        if not settles:
            return float(estimate.output_tokens or 0)
        expected = FIRST_OUTPUT if self._output is None else self._output
        return min(expected, estimate.output_tokens) if estimate.output_tokens else expected

    def reported(self, estimate: TokenEstimate, usage: Usage) -> None:
        if usage.input_tokens and estimate.input_tokens:
            if not self._estimated:
                # The offline estimate is not worth nothing: one odd first request must not set the pace.
                self._estimated = self._reported = _TRUST * estimate.input_tokens
            self._estimated = _MEMORY * self._estimated + estimate.input_tokens
            self._reported = _MEMORY * self._reported + usage.input_tokens
        if usage.output_tokens is not None:
            self._learn_output(usage.output_tokens)

    def _learn_output(self, tokens: int) -> None:
        """Move towards the length that nine of ten answers stay below, without keeping them."""
        if self._output is None:
            self._output = max(float(tokens), 1.0)
        step = _STEP * max(self._output, 1.0)
        self._output += step * _HIGH if tokens > self._output else -step * (1 - _HIGH)
        self._output = max(self._output, 1.0)
