from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptmill_simulator.answers import parse_lengths
from promptmill_simulator.distribution import Distribution
from promptmill_simulator.latency import parse_latency

FRACTIONS = [(number + 0.5) / 1000 for number in range(1000)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("200ms", Distribution("fixed", 0.2)),
        ("0", Distribution("fixed", 0.0)),
        ("200ms..1s", Distribution("uniform", 0.2, 1.0)),
        ("lognormal:2.5s,0.5", Distribution("lognormal", 2.5, 0.5)),
        (0.25, Distribution("fixed", 0.25)),
    ],
)
def test_latencies_are_read(text: object, expected: Distribution) -> None:
    assert parse_latency(text) == expected


@pytest.mark.parametrize(
    "text", ["", "soon", "1s..", "2s..1s", "lognormal:1s", "lognormal:1s,-1", "lognormal:1s,x", "-1s"]
)
def test_bad_latencies_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_latency(text)


@pytest.mark.parametrize("text", ["0", "0..5", "nan", "1e9", "many"])
def test_bad_lengths_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_lengths(text)


def test_draws_have_the_asked_shape() -> None:
    uniform = [Distribution("uniform", 2, 4).at(fraction) for fraction in FRACTIONS]
    assert (min(uniform), max(uniform)) == (pytest.approx(2, abs=0.01), pytest.approx(4, abs=0.01))
    lognormal = [Distribution("lognormal", 2.5, 0.5).at(fraction) for fraction in FRACTIONS]
    assert statistics.median(lognormal) == pytest.approx(2.5, rel=0.01)
    # The mean of a lognormal is its median times exp(sigma^2 / 2).
    assert statistics.mean(lognormal) == pytest.approx(2.5 * 1.1331, rel=0.01)


@given(st.floats(0, 1))
def test_lognormal_draws_are_finite_and_positive(fraction: float) -> None:
    assert 0 < Distribution("lognormal", 1.0, 2.0).at(fraction) < float("inf")


@pytest.mark.parametrize("text", ["0.2", "0.2..1.0", "lognormal:2.5,0.5"])
def test_the_text_form_is_kept(text: str) -> None:
    assert str(parse_latency(text)) == text


def test_zero_is_known() -> None:
    assert parse_latency("0").is_zero
    assert not parse_latency("0..1s").is_zero
