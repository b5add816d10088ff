"""The closing lines of a run."""

from __future__ import annotations

import msgspec

from promptmill._report import Tally
from promptmill.cli.summary import MOST_CODES, lines_of
from promptmill.errors import Throttled
from promptmill.interfaces import AttemptFailed
from promptmill.models import ErrorInfo, Result, Usage


def ok(provider: str = "fast", latency: float = 0.5) -> Result:
    usage = Usage(input_tokens=1000, output_tokens=500)
    return Result(id="1", index=0, status="ok", provider=provider, attempts=1, latency_s=latency, usage=usage)


def failed(code: str, provider: str | None = "slow") -> Result:
    return Result(id="1", index=0, status="failed", provider=provider, error=ErrorInfo(code=code, message="m"))


def lines(tally: Tally, *, total: int, elapsed: float) -> list[str]:
    summary = tally.summary(run_id="r", total=total, elapsed=elapsed, resumable=False)
    return list(lines_of(summary, tally))


def test_an_empty_run() -> None:
    assert lines(Tally(), total=0, elapsed=0.0) == [
        "succeeded    0 of 0",
        "failed       0",
        "total time   0 ms",
        "throughput   0.0 requests/s",
    ]


def test_a_run_with_everything() -> None:
    tally = Tally()
    for _ in range(1200):
        tally.request_finished(ok())
    tally.attempt_failed(
        AttemptFailed(request_id="1", provider="fast", attempt=1, failure=Throttled("x"), latency_s=0.1, retry_in=1.0)
    )
    for code in ("timeout", "bad_request", "timeout"):
        tally.request_finished(failed(code))
    shown = lines(tally, total=2000, elapsed=125.0)
    assert shown[:7] == [
        "succeeded    1,200 of 2,000",
        "failed       3",
        "             2 x timeout",
        "             1 x bad_request",
        "not done     797",
        "total time   2 min 05 s",
        "latency      500 ms on average, 95 % within 501 ms",
    ]
    assert shown[7:] == [
        "throughput   9.6 requests/s",
        "cost         not known for 1,200 of 1,200 answers",
        "",
        "provider     ok  failed  calls  tokens in  tokens out  cost",
        "fast      1,200       0  1,201  1,200,000     600,000     -",
        "slow          0       3      0          -           -     -",
    ]


def test_the_cost_and_what_was_saved() -> None:
    tally = Tally({"cheap": lambda *_: 0.1}.get)
    tally.request_finished(msgspec.structs.replace(ok(), cost_usd=1.25, tier="realtime"))
    assert "cost         $1.25" in lines(tally, total=1, elapsed=1.0)
    tally.request_finished(msgspec.structs.replace(ok("cheap"), cost_usd=0.05, tier="flex"))
    shown = lines(tally, total=2, elapsed=1.0)
    assert "cost         $1.30, $0.050 (4 %) less than all in realtime" in shown
    assert [line.split()[-4] for line in shown[-2:]] == ["$0.050", "$1.25"]
    assert [line.split()[-1] for line in shown[-2:]] == ["flex", "realtime"]


def test_only_the_commonest_codes_are_told() -> None:
    tally = Tally()
    for number in range(MOST_CODES + 5):
        for _ in range(number + 1):
            tally.request_finished(failed(f"code_{number}", provider=None))
    shown = [line.strip() for line in lines(tally, total=120, elapsed=1.0) if " x " in line]
    assert shown == [f"{number + 1} x code_{number}" for number in range(MOST_CODES + 4, 4, -1)]
