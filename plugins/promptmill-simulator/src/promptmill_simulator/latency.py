"""How long the simulated model takes."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import PlainSerializer, PlainValidator

from promptmill.options import parse_duration
from promptmill_simulator.distribution import Distribution, parse

NO_LATENCY: Final = Distribution("fixed", 0.0)


def parse_latency(value: object) -> Distribution:
    """Seconds from ``200ms``, ``200ms..1s``, ``lognormal:2.5s,0.5`` (median and sigma) or a number.

    Raises:
        ValueError: the value is none of these.
    """
    if isinstance(value, Distribution):
        return value
    if isinstance(value, str):
        return parse(value.strip(), parse_duration)
    return Distribution("fixed", parse_duration(value))


Latency = Annotated[Distribution, PlainValidator(parse_latency), PlainSerializer(str)]
"""A pydantic field type: a distribution of seconds."""
