"""Distributions of a number: fixed, uniform or lognormal, read from a short text and drawn without hidden state."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Final, Literal

import msgspec

_NORMAL: Final = NormalDist()
_EDGE: Final = 1e-9


class Distribution(msgspec.Struct, frozen=True):
    """``fixed``: always ``a``. ``uniform``: from ``a`` to ``b``. ``lognormal``: median ``a``, sigma ``b`` (no unit)."""

    kind: Literal["fixed", "uniform", "lognormal"]
    a: float
    b: float = 0.0

    def __str__(self) -> str:
        """The text that :func:`parse` reads."""
        if self.kind == "fixed":
            return str(self.a)
        return f"{self.a}..{self.b}" if self.kind == "uniform" else f"lognormal:{self.a},{self.b}"

    def at(self, fraction: float) -> float:
        """The value below which ``fraction`` (0 to 1) of all draws lie."""
        if self.kind == "fixed":
            return self.a
        if self.kind == "uniform":
            return self.a + (self.b - self.a) * fraction
        return self.a * math.exp(self.b * _NORMAL.inv_cdf(min(max(fraction, _EDGE), 1 - _EDGE)))

    @property
    def is_zero(self) -> bool:
        """Whether every draw is 0."""
        return self.a == 0 and (self.kind != "uniform" or self.b == 0)


def parse(text: str, number: Callable[[str], float]) -> Distribution:
    """Read ``X``, ``X..Y`` or ``lognormal:MEDIAN,SIGMA``; ``number`` reads one value.

    Raises:
        ValueError: the text is none of these.
    """
    if text.startswith("lognormal:"):
        median, comma, sigma = text.removeprefix("lognormal:").partition(",")
        if not comma:
            raise ValueError(f"{text!r} lacks a sigma; write lognormal:MEDIAN,SIGMA, for example lognormal:2.5s,0.5")
        spread = float(sigma)
        if not 0 <= spread <= 10:
            raise ValueError(f"sigma is {spread}; it must be between 0 and 10")
        return Distribution("lognormal", number(median), spread)
    low, dots, high = text.partition("..")
    if not dots:
        return Distribution("fixed", number(text))
    first, last = number(low), number(high)
    if first > last:
        raise ValueError(f"{text!r} runs backwards; write the smaller value first")
    return Distribution("uniform", first, last)
