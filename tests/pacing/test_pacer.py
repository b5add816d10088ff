"""The pacer in virtual time: never over a limit in any window, hardly below it, all dimensions together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptmill._pacing import Charge, Pacer
from promptmill._pacing.gcra import BURST_SECONDS
from promptmill._pacing.speed import TARGET_UTILISATION
from promptmill.clock import VirtualClock
from promptmill.errors import Throttled
from promptmill.models import LimitReading, TokenEstimate, Usage

MINUTES = {"rpm": 60.0, "tpm": 60.0, "itpm": 60.0, "otpm": 60.0}
DAYS = {"rpd": 86400.0, "tpd": 86400.0}
WINDOWS = {**MINUTES, **DAYS}

ESTIMATES = st.builds(TokenEstimate, st.integers(0, 3_000), st.none() | st.integers(0, 1_500))


def cost(name: str, estimate: TokenEstimate) -> float:
    """What the limit ``name`` counts for a request."""
    output = estimate.output_tokens or 0
    if name in ("rpm", "rpd"):
        return 1.0
    return float({"itpm": estimate.input_tokens, "otpm": output}.get(name, estimate.input_tokens + output))


def dispatch(
    limits: Mapping[str, float],
    estimates: Sequence[TokenEstimate],
    pauses: Sequence[float] = (),
    until: float = float("inf"),
) -> list[tuple[float, TokenEstimate]]:
    """When each request goes, in a lane that waits as told and sometimes has nothing to do for a while."""
    clock = VirtualClock()
    sent: list[tuple[float, TokenEstimate]] = []

    async def main() -> None:
        pacer = Pacer(limits, clock)
        for number, estimate in enumerate(estimates):
            await clock.sleep(pauses[number % len(pauses)] if pauses else 0.0)
            looks = 0
            while (wait := pacer.wait(estimate)) > 0:
                looks += 1
                assert looks <= 4, "waiting as long as told is enough, but for rounding"
                await clock.sleep(wait)
            if clock.now() > until:
                return
            pacer.charge(estimate)
            sent.append((clock.now(), estimate))

    clock.run(main)
    return sent


def assert_within(limits: Mapping[str, float], sent: Sequence[tuple[float, TokenEstimate]]) -> None:
    for name, limit in limits.items():
        if name in DAYS:
            continue
        rate = limit * TARGET_UTILISATION / WINDOWS[name]
        for first in range(len(sent)):
            total = 0.0
            for at, estimate in sent[first:]:
                total += cost(name, estimate)
                # One request larger than the burst goes alone, when everything before it is paid off.
                allowed = rate * (at - sent[first][0]) + max(rate * BURST_SECONDS, cost(name, estimate))
                assert total <= allowed * (1 + 1e-6) + 1e-6, (name, first, at)


@settings(deadline=None)
@given(
    limits=st.dictionaries(st.sampled_from(sorted(MINUTES)), st.floats(1_000, 1e6), min_size=1),
    estimates=st.lists(ESTIMATES, min_size=1, max_size=40),
    pauses=st.lists(st.sampled_from([0.0, 0.0, 0.1, 5.0, 200.0]), max_size=5),
)
def test_no_window_ever_has_more_than_the_limit_and_the_burst(
    limits: dict[str, float], estimates: list[TokenEstimate], pauses: list[float]
) -> None:
    sent = dispatch(limits, estimates, pauses)
    assert len(sent) == len(estimates)
    assert_within(limits, sent)


@pytest.mark.parametrize(
    ("limits", "estimate"),
    [
        ({"rpm": 600}, TokenEstimate(10)),
        ({"rpm": 60}, TokenEstimate(10)),
        ({"rpm": 6_000}, TokenEstimate(10)),
        ({"tpm": 200_000}, TokenEstimate(500, 200)),
        ({"itpm": 100_000}, TokenEstimate(700, 9_999)),
        ({"otpm": 50_000}, TokenEstimate(700, 256)),
        ({"tpm": 60_000}, TokenEstimate(4_000, 1_000)),
        ({"rpm": 600, "tpm": 200_000, "rpd": 1e9}, TokenEstimate(100, 50)),
        ({"rpm": 6_000, "tpm": 200_000, "itpm": 150_000, "otpm": 50_000}, TokenEstimate(300, 100)),
    ],
    ids=str,
)
def test_ten_minutes_use_98_percent_of_the_binding_limit(limits: dict[str, float], estimate: TokenEstimate) -> None:
    seconds = 600.0
    sent = dispatch(limits, [estimate] * 61_000, until=seconds)
    used = {
        name: len(sent) * cost(name, estimate) / (limit * seconds / WINDOWS[name]) for name, limit in limits.items()
    }
    assert 0.98 <= max(used.values()) <= 1.0, used


def test_mixed_sizes_use_98_percent_too() -> None:
    estimates = [TokenEstimate(50 + 37 * number % 2_000, 256) for number in range(20_000)]
    sent = dispatch({"tpm": 300_000}, estimates, until=600.0)
    assert 0.98 <= sum(cost("tpm", estimate) for _, estimate in sent) / 3_000_000 <= 1.0


def test_the_start_is_empty() -> None:
    sent = dispatch({"rpm": 600}, [TokenEstimate(1)] * 20)
    gap = 0.1 / TARGET_UTILISATION
    assert [at for at, _ in sent] == pytest.approx([gap * (number + 1) for number in range(20)])


def test_an_idle_time_saves_up_no_more_than_the_burst() -> None:
    sent = dispatch({"rpm": 600}, [TokenEstimate(1)] * 30, pauses=[3600.0] + [0.0] * 29)
    at_once = [at for at, _ in sent if at == sent[0][0]]
    assert len(at_once) == int(600 / 60 * TARGET_UTILISATION * BURST_SECONDS)


def test_the_tightest_dimension_decides_and_all_are_charged() -> None:
    clock = VirtualClock()
    pacer = Pacer({"rpm": 60, "tpm": 6_000}, clock)

    async def main() -> None:
        await clock.sleep(100)
        small, large = TokenEstimate(10), TokenEstimate(3_000)
        assert pacer.wait(small) == 0
        pacer.charge(large)
        assert pacer.wait(small) == pytest.approx(3_000 / 99 + 10 / 99 - BURST_SECONDS)
        await clock.sleep(pacer.wait(small))
        assert pacer.wait(small) == pytest.approx(0, abs=1e-6)

    clock.run(main)


def test_a_request_larger_than_the_burst_goes_alone() -> None:
    large = TokenEstimate(2_000)
    sent = dispatch({"tpm": 6_000}, [large] * 4)
    gap = 2_000 / (100 * TARGET_UTILISATION)
    assert [at for at, _ in sent] == pytest.approx([BURST_SECONDS + gap * number for number in range(4)])


@pytest.mark.parametrize(
    ("limits", "estimate", "name"),
    [
        ({"tpm": 100}, TokenEstimate(60, 40), None),
        ({"tpm": 100}, TokenEstimate(60, 41), "tpm"),
        ({"tpm": 100}, TokenEstimate(60, None), None),
        ({"itpm": 100}, TokenEstimate(100, 500), None),
        ({"itpm": 100}, TokenEstimate(101, 0), "itpm"),
        ({"otpm": 100}, TokenEstimate(500, 101), "otpm"),
        ({"rpm": 1, "tpd": 1_000}, TokenEstimate(1_001), "tpd"),
        ({"rpm": 0.5}, TokenEstimate(1), None),
        ({}, TokenEstimate(10**9), None),
    ],
)
def test_what_would_never_fit_is_told(limits: dict[str, float], estimate: TokenEstimate, name: str | None) -> None:
    assert Pacer(limits, VirtualClock()).oversized(estimate) == name


def test_a_limit_below_one_request_a_window_still_lets_requests_go() -> None:
    sent = dispatch({"rpm": 0.5}, [TokenEstimate(1)] * 3)
    assert [at for at, _ in sent] == pytest.approx([BURST_SECONDS + number * 120 / 0.99 for number in range(3)])


def test_without_limits_there_is_nothing_to_wait_for() -> None:
    pacer = Pacer({}, VirtualClock())
    pacer.charge(TokenEstimate(10**9))
    assert pacer.wait(TokenEstimate(10**9)) == 0
    assert not pacer.counts_tokens
    assert Pacer({"tpm": 1}, VirtualClock()).counts_tokens


@settings(deadline=None)
@given(st.integers(1, 30), st.lists(st.sampled_from([0.0, 10.0, 5_000.0, 50_000.0]), min_size=1, max_size=60))
def test_no_day_has_more_than_its_limit_and_all_of_it_may_go_at_once(limit: int, pauses: list[float]) -> None:
    sent = [at for at, _ in dispatch({"rpd": limit}, [TokenEstimate(1)] * 60, pauses)]
    assert len(sent) == 60
    for number, at in enumerate(sent[limit:]):
        assert at - sent[number] >= 86400.0 - 1e-3 or at - sent[0] >= 86400.0
    if not any(pauses):
        assert sent[:limit] == [0.0] * limit


@given(st.data())
def test_what_settles_is_paid_back_exactly_once(data: st.DataObject) -> None:
    """However often the end of a call is told, and in whatever way, what is owed is what was used."""
    clock = VirtualClock()
    pacer = Pacer({"tpm": 600_000.0}, clock, charging="settle")
    used = 0.0
    for _ in range(data.draw(st.integers(1, 20))):
        estimate = TokenEstimate(data.draw(st.integers(1, 500)), data.draw(st.integers(1, 500)))
        charge = pacer.charge(estimate)
        usage = Usage(input_tokens=data.draw(st.integers(1, 900)), output_tokens=data.draw(st.integers(0, 900)))
        end = data.draw(st.sampled_from(["answered", "failed", "not_sent", "refused"]))
        used += {
            "answered": (usage.input_tokens or 0) + (usage.output_tokens or 0),
            "failed": charge.costs["tokens"],
        }.get(end, 0.0)
        for _ in range(data.draw(st.integers(1, 3))):
            if end == "answered":
                pacer.answered(charge, usage)
            elif end == "refused":
                pacer.not_sent(charge)  # as a refusal gives back, without the rest that would follow it
            else:
                getattr(pacer, end)(charge)
    assert pacer.owed()["tpm"] == pytest.approx(used * 60 / 600_000 / TARGET_UTILISATION, abs=1e-6)


def refuse(pacer: Pacer, charge: Charge, **said: Any) -> float:
    """Returns the seconds the whole key rests then."""
    pacer.refused(charge, Throttled("no", **said))
    return max(pacer.resting_until - pacer._clock.now(), 0.0)


@pytest.mark.parametrize("retry_after", [None, 1.0, 60.0])
def test_single_refusals_stop_nobody_else_and_lower_no_limit_that_was_told(retry_after: float | None) -> None:
    clock = VirtualClock()
    pacer = Pacer({"rpm": 600.0}, clock)
    one = TokenEstimate(1)

    async def main() -> None:
        await clock.sleep(10)
        before = pacer.seconds_for(600, one)
        for number in range(200):
            charge = pacer.charge(one)
            if number % 40 == 20:
                refuse(pacer, charge, retry_after=retry_after)
            else:
                pacer.answered(charge, Usage())
            await clock.sleep(pacer.wait(one) + 0.1)
        assert pacer.resting_until <= clock.now()
        assert pacer.seconds_for(600, one) <= before + 1

    clock.run(main)


def test_a_key_whose_calls_are_all_refused_rests_and_one_call_finds_out_how_long() -> None:
    clock = VirtualClock()
    pacer = Pacer({}, clock)
    one = TokenEstimate(1)

    async def main() -> None:
        charges = [pacer.charge(one) for _ in range(20)]
        rests = [refuse(pacer, charge) for charge in charges]
        assert rests[:7] == [0.0] * 7, "fewer in a row may be chance"
        assert rests[7] == pytest.approx(0.25)
        for doubled in (0.5, 1.0, 2.0):
            await clock.sleep(max(pacer.resting_until - clock.now(), 0))
            probe = pacer.charge(one)
            assert probe.probe
            assert pacer.wait(one) > 0, "the others wait for what becomes of it"
            assert refuse(pacer, probe) == pytest.approx(doubled)
        await clock.sleep(pacer.wait(one))
        pacer.answered(pacer.charge(one), Usage())
        assert pacer.resting_until <= clock.now()
        assert not pacer.charge(one).probe

    clock.run(main)


def test_a_refusal_that_names_its_limit_rests_the_key_at_once_but_not_when_that_proved_wrong() -> None:
    clock = VirtualClock()
    pacer = Pacer({}, clock)
    one = TokenEstimate(1)

    async def main() -> None:
        rests = []
        for _ in range(6):
            rests.append(refuse(pacer, pacer.charge(one), dimension="requests") > 0)
            await clock.sleep(1)
            pacer.answered(pacer.charge(one), Usage())
            await clock.sleep(1)
        assert rests[0]
        assert sum(rests) <= 2, "each time the very next call was taken: it did not count for all"

    clock.run(main)


def test_what_a_server_says_of_the_wait_is_believed_once_it_proved_right() -> None:
    clock = VirtualClock()
    pacer = Pacer({}, clock)
    one = TokenEstimate(1)

    async def used_up(until: float) -> int:
        """Calls that are refused until then, with the truth told."""
        refused = 0
        while clock.now() < until:
            pacer.refused(pacer.charge(one), Throttled("no", retry_after=until - clock.now()))
            refused += 1
            await clock.sleep(max(pacer.resting_until - clock.now(), 0.0) + 1e-6)
        await clock.sleep(max(pacer.resting_until - clock.now(), 0.0))
        for _ in range(200):
            pacer.answered(pacer.charge(one), Usage())
        return refused

    async def main() -> None:
        first = await used_up(clock.now() + 30)
        second = await used_up(clock.now() + 30)
        assert first <= 16
        assert second == 8, "the clump itself, and no call in between"

    clock.run(main)


def test_limits_told_are_kept_to_but_never_above_the_jobs() -> None:
    clock = VirtualClock()

    def owed(given: dict[str, float], told: float) -> float:
        pacer = Pacer(given, clock)
        pacer.answered(pacer.charge(TokenEstimate(1)), Usage(), [LimitReading(what="requests", limit=told)])
        return pacer.seconds_for(600, TokenEstimate(1)) - 1

    assert owed({}, 600.0) == pytest.approx(60 / TARGET_UTILISATION, abs=1)
    assert owed({"rpm": 600.0}, 300.0) == pytest.approx(120 / TARGET_UTILISATION, abs=1)
    assert owed({"rpm": 300.0}, 600.0) == pytest.approx(120 / TARGET_UTILISATION, abs=1)


def test_an_odd_limit_is_believed_when_it_was_told_three_times() -> None:
    pacer = Pacer({"rpm": 600.0}, VirtualClock())
    odd = [LimitReading(what="requests", limit=10.0)]
    for _ in range(2):
        pacer.answered(pacer.charge(TokenEstimate(1)), Usage(), odd)
        assert not pacer.learned()
    pacer.answered(pacer.charge(TokenEstimate(1)), Usage(), odd)
    assert [(one.name, one.limit, one.told) for one in pacer.learned()] == [("rpm", 10.0, True)]


def test_what_is_left_is_a_bound_for_what_goes_at_once() -> None:
    clock = VirtualClock()
    pacer = Pacer({"rpm": 6_000.0}, clock)

    async def main() -> None:
        await clock.sleep(10)
        charge = pacer.charge(TokenEstimate(1))
        assert pacer.wait(TokenEstimate(1)) == 0  # 98 more could go at once
        pacer.answered(charge, Usage(), [LimitReading(what="requests", limit=6_000.0, remaining=2.0)])
        went = 0
        while pacer.wait(TokenEstimate(1)) == 0:
            pacer.charge(TokenEstimate(1))
            went += 1
        assert went == 2

    clock.run(main)


def test_a_day_told_to_be_used_up_is_waited_for_until_it_ends() -> None:
    clock = VirtualClock()
    pacer = Pacer({}, clock)
    day = LimitReading(what="requests", window=86400.0, limit=1_000.0, remaining=1.0, reset_in=7_200.0)
    pacer.answered(pacer.charge(TokenEstimate(1)), Usage(), [day])
    assert pacer.wait(TokenEstimate(1)) == 0
    pacer.charge(TokenEstimate(1))
    assert pacer.wait(TokenEstimate(1)) == pytest.approx(7_200.0)


def test_a_day_heard_of_meanwhile_gets_nothing_back_that_was_not_taken_from_it() -> None:
    pacer = Pacer({}, VirtualClock())
    one = TokenEstimate(1)
    early, late = pacer.charge(one), pacer.charge(one)
    day = LimitReading(what="requests", window=86400.0, limit=1_000.0, remaining=1.0, reset_in=7_200.0)
    pacer.answered(late, Usage(), [day])
    pacer.not_sent(early)
    pacer.charge(one)
    assert pacer.wait(one) == pytest.approx(7_200.0)


@pytest.mark.parametrize("retry_after", [None, 0.0, -5.0, float("nan"), float("inf"), 1e9, 1e-9])
def test_no_retry_after_makes_it_wait_for_ever_or_not_at_all(retry_after: float | None) -> None:
    clock = VirtualClock()
    pacer = Pacer({}, clock)

    async def main() -> None:
        rests = []
        for _ in range(40):
            rests.append(refuse(pacer, pacer.charge(TokenEstimate(1)), retry_after=retry_after))
            await clock.sleep(rests[-1] + 0.001)
        assert all(0 <= rest <= 28 * 3600 for rest in rests)
        assert clock.now() > 60, "forty refusals in a row are no busy loop"

    clock.run(main)


def test_a_wait_is_never_negative() -> None:
    clock = VirtualClock()
    pacer = Pacer({"rpm": 60}, clock)
    clock.run(clock.sleep, 1_000)
    assert pacer.wait(TokenEstimate(1)) == 0


@given(st.lists(ESTIMATES, min_size=1, max_size=50))
def test_what_is_owed_is_how_long_it_takes(estimates: list[TokenEstimate]) -> None:
    limits = {"rpm": 600.0, "tpm": 100_000.0}
    pacer = Pacer(limits, VirtualClock())
    for estimate in estimates:
        pacer.charge(estimate)
    for name, seconds in pacer.owed().items():
        total = sum(cost(name, estimate) for estimate in estimates)
        assert seconds == pytest.approx(60 * total / limits[name] / TARGET_UTILISATION)


def test_what_is_learned_counts_for_an_estimate_that_was_asked_for_before() -> None:
    pacer = Pacer({"itpm": 1000}, VirtualClock())
    estimate = TokenEstimate(500, None)
    assert pacer.oversized(estimate) is None
    for _ in range(5):
        pacer.answered(pacer.charge(estimate), Usage(input_tokens=5000))
    assert pacer.oversized(estimate) == "itpm"
