"""A second call for what takes unusually long."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

from promptmill import Pipeline
from promptmill._hedging import Hedge
from promptmill.clock import VirtualClock
from promptmill.errors import ProviderError, RunStopped, Throttled
from promptmill.interfaces import RealtimeProvider
from promptmill.models import Request, Response, Usage
from promptmill.options import BuildContext, Limits, Price, ProviderOptions
from promptmill.testing import request

SLOW = 100.0


class Uneven(RealtimeProvider):
    """Answers in a second, but every fiftieth first call takes long."""

    model = "uneven"

    def __init__(self, second: Callable[[], ProviderError | None] = lambda: None) -> None:
        self.calls: list[int] = []
        self.cancelled = 0
        self.at_once: dict[int, int] = {}
        self._second = second

    async def complete(self, request: Request, *, timeout: float) -> Response:
        again = request.index in self.calls
        self.calls.append(request.index)
        try:
            if again:
                failure = self._second()
                if failure is not None:
                    raise failure
            await anyio.sleep(
                SLOW if request.index % 50 == 49 and not again else 1.0 + request.index * 37 % 1000 / 5000
            )
        except anyio.get_cancelled_exc_class():
            self.cancelled += 1
            raise
        return Response(text="second" if again else "first", usage=Usage(input_tokens=5, output_tokens=100))


class UnevenOptions(ProviderOptions):
    def build(self, context: BuildContext) -> Uneven:
        return BUILT[-1]


BUILT: list[Uneven] = []


def run(
    provider: Uneven, *, hedge: float | None, budget: float | None = None, limits: Limits | None = None
) -> tuple[list[str], float, int]:
    """The texts, the seconds it took, and the calls that were counted."""
    BUILT.append(provider)
    clock = VirtualClock()
    options = UnevenOptions(
        hedge=hedge, max_concurrency=20, price=Price(input=1.0, output=1.0), limits=limits or Limits()
    )

    async def main() -> tuple[list[str], float, int]:
        pipeline = Pipeline({"a": options}, clock=clock, budget_usd=budget)
        prompts = [request(id=str(at), index=at, params={"max_tokens": 100}) for at in range(1_000)]
        try:
            results = await pipeline.gather(prompts)
        except RunStopped as stopped:
            results = list(stopped.results)
        return [str(one.text) for one in results], clock.now(), sum(one.attempts for one in results)

    return clock.run(main)


def test_what_takes_unusually_long_is_asked_again_and_the_first_answer_counts() -> None:
    alone, hedged = Uneven(), Uneven()
    _, without, _ = run(alone, hedge=None)
    texts, took, attempts = run(hedged, hedge=0.95)
    assert len(texts) == 1_000
    assert texts.count("second") >= 18, "all but those before it was known what is unusual"
    assert hedged.cancelled == len(hedged.calls) - 1_000, "each second call ends one of the two"
    assert len(hedged.calls) == attempts <= 1_100
    assert took < without / 1.5


def test_it_is_off_unless_asked_for() -> None:
    provider = Uneven()
    texts, _, attempts = run(provider, hedge=None)
    assert len(provider.calls) == attempts == 1_000
    assert set(texts) == {"first"}


def test_second_calls_are_at_most_a_tenth() -> None:
    provider = Uneven()
    run(provider, hedge=0.5)
    assert len(provider.calls) <= 1_000 + 100 + 11


def test_second_calls_wait_for_no_limit() -> None:
    """Where the limit is what is waited for, a second call would only take the place of a first one."""
    provider = Uneven()
    _, took, _ = run(provider, hedge=0.95, limits=Limits(rpm=300))
    assert len(provider.calls) <= 1_000 + 5
    assert took < 1_000 / 5 + SLOW + 5


def test_second_calls_count_against_the_budget() -> None:
    cost = 105e-6
    provider = Uneven()
    texts, _, _ = run(provider, hedge=0.95, budget=500 * cost)
    assert provider.cancelled >= 5
    assert 400 < len(texts) < 500
    assert len(provider.calls) * cost <= 500 * cost, "the second calls, too, whatever became of them"


@pytest.mark.parametrize("failure", [Throttled("no"), ValueError("broken")], ids=str)
def test_a_second_call_that_fails_leaves_the_first_alone(failure: ProviderError) -> None:
    def raising() -> ProviderError | None:
        return failure

    provider = Uneven(raising)
    texts, _, _ = run(provider, hedge=0.95)
    assert len(texts) == 1_000
    assert set(texts) == {"first"}
    assert provider.cancelled == 0


def test_what_is_unusual_is_known_after_fifty_calls_and_follows_the_last_ones() -> None:
    hedge = Hedge(0.9)
    for second in range(49):
        hedge.answered(float(second))
    assert hedge.after is None
    hedge.answered(49.0)
    assert hedge.after == 44.0
    for _ in range(600):
        hedge.answered(7.0)
    assert hedge.after == 7.0
