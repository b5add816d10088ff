"""Several keys of one model as one provider."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from limited_server import Server, mill

from promptmill._config import load_job
from promptmill._lane import Key
from promptmill._registry import Registry
from promptmill.clock import VirtualClock
from promptmill.errors import AuthFailed, JobError, QuotaExhausted
from promptmill.interfaces import RealtimeProvider
from promptmill.models import Request, Response


def test_all_keys_are_used_at_their_own_limits() -> None:
    clock = VirtualClock()
    servers = [Server(clock, rpm=rpm, seed=at) for at, rpm in enumerate((600.0, 600.0, 1200.0))]
    others = [Key(servers[1], {"rpm": 600.0}), Key(servers[2], {"rpm": 1200.0})]
    outcome = mill(clock, {"a": servers[0]}, limits={"rpm": 600.0}, others=others, seconds=300)
    for server, rate in zip(servers, (10, 10, 20), strict=True):
        assert server.used(60, 300) >= 0.98 * rate * 240
        assert server.refused == []
    assert all(result.provider == "a" for result in outcome.results)


def test_a_key_that_is_full_is_used_again_before_a_slow_one_has_room() -> None:
    clock = VirtualClock()
    slow, quick = Server(clock, rpm=6.0), Server(clock, rpm=60_000.0, latency=0.1)
    outcome = mill(clock, {"a": slow}, limits={"rpm": 6.0}, others=[Key(quick, {})], count=300, concurrency=3)
    assert len(outcome.results) == 300
    assert outcome.took < 40, "300 calls of a tenth of a second, three at a time, and the last of the slow key"


class Failing(RealtimeProvider):
    model = "sim"

    def __init__(self, failure: Exception, after: int = 0) -> None:
        self.calls = 0
        self._failure = failure
        self._after = after

    async def complete(self, request: Request, *, timeout: float) -> Response:
        self.calls += 1
        await anyio.sleep(0.1)
        if self.calls > self._after:
            raise self._failure
        return Response(text="x")


def test_a_key_without_quota_does_not_stop_the_others() -> None:
    clock = VirtualClock()
    poor, rich = Failing(QuotaExhausted("the credit is used up"), after=50), Server(clock, rpm=6_000.0, latency=0.1)
    outcome = mill(clock, {"a": poor}, others=[Key(rich, {})], count=500, concurrency=10)
    assert [result.ok for result in outcome.results] == [True] * 500
    assert poor.calls <= 50 + 10
    assert outcome.engine.stopped is None


def test_when_no_key_has_quota_the_run_stops_and_fails_nothing() -> None:
    keys = [Failing(QuotaExhausted("the credit is used up"), after=20 * at) for at in range(3)]
    outcome = mill(VirtualClock(), {"a": keys[0]}, others=[Key(key, {}) for key in keys[1:]], count=500, concurrency=10)
    assert outcome.engine.stopped is not None
    assert outcome.engine.stopped.exit_code == 4
    assert all(result.ok for result in outcome.results)


def test_a_refused_key_stops_the_run_and_is_named() -> None:
    clock = VirtualClock()
    outcome = mill(
        clock, {"a": Server(clock, rpm=600.0)}, others=[Key(Failing(AuthFailed("wrong key")), {})], count=500
    )
    assert outcome.engine.stopped is not None
    assert "a[1]: wrong key" in outcome.engine.stopped.message


def test_requests_that_begin_alike_go_to_one_key_while_it_has_room() -> None:
    clock = VirtualClock()
    servers = [Server(clock, rpm=60_000.0, seed=at, latency=0.5) for at in range(3)]
    mill(
        clock,
        {"a": servers[0]},
        others=[Key(one, {}) for one in servers[1:]],
        count=300,
        concurrency=200,
        text=lambda at: f"{at % 7} begins".ljust(4_000, "x") + str(at),
    )
    assert sum(len(set(one.prefixes)) for one in servers) == 7, "each beginning has one home"
    assert all(one.prefixes for one in servers)
    assert sum(len(one.prefixes) for one in servers) == 300


def test_requests_that_begin_alike_do_not_leave_the_other_keys_idle() -> None:
    clock = VirtualClock()
    servers = [Server(clock, rpm=600.0, seed=at) for at in range(2)]
    outcome = mill(
        clock,
        {"a": servers[0]},
        limits={"rpm": 600.0},
        others=[Key(servers[1], {"rpm": 600.0})],
        count=2_000,
        text=lambda at: "y" * 4_000 + str(at),
    )
    assert outcome.took <= 2_000 / 20 * 1.2


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({"timeout": 3}, "'timeout' is the same for the whole pool"),
        ({"pool": []}, "'pool' is the same for the whole pool"),
        ({}, "number 2 of the pool has nothing of its own"),
        ({"limits": {"rpm": -1}}, "should be greater than 0"),
        ({"nonsense": 1}, "extra inputs are not permitted"),
    ],
)
def test_a_wrong_pool_is_refused(own: dict[str, object], words: str) -> None:
    from promptmill_openai.chat import OpenAIChatOptions

    with pytest.raises(ValueError, match="(?i)" + words):
        OpenAIChatOptions.model_validate({"model": "m", "pool": [{"api_key": "env:A"}, own]})


def test_a_pool_member_has_what_is_shared_and_its_own() -> None:
    from promptmill_openai.chat import OpenAIChatOptions

    options = OpenAIChatOptions.model_validate(
        {
            "model": "m",
            "api_key": "env:SHARED",
            "timeout": "30s",
            "pool": [{"limits": {"rpm": 5}}, {"api_key": "env:OTHER", "model": "n"}],
        }
    )
    first, second = options.members()
    assert (str(first.api_key), first.model, first.timeout, first.limits.rpm) == ("env:SHARED", "m", 30.0, 5.0)
    assert (str(second.api_key), second.model, second.timeout, second.limits.rpm) == ("env:OTHER", "n", 30.0, None)
    assert options.identity() == OpenAIChatOptions.model_validate({"model": "m"}).identity()


def test_a_batch_provider_has_no_pool() -> None:
    from promptmill_openai.batch import OpenAIBatchOptions

    with pytest.raises(ValueError, match="few calls"):
        OpenAIBatchOptions.model_validate({"model": "m", "pool": [{"api_key": "env:A"}]})


def test_a_literal_key_in_a_pool_is_refused_and_never_shown(tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text(
        "version: 1\ninput: {path: p.jsonl}\noutput: a.jsonl\nproviders:\n  fast:\n    use: openai-chat\n    model: m\n"
        "    pool:\n      - {api_key: env:A}\n      - {api_key: sk-canary-123}\n"
    )
    with pytest.raises(JobError) as caught:
        load_job(job, Registry())
    (problem,) = caught.value.problems
    assert problem.location is not None
    assert problem.location.line == 10
    assert "canary" not in repr(caught.value.problems)


@pytest.mark.parametrize(
    ("pool", "line", "column"),
    [
        ("{api_key: env:B, timeout: 3}", 10, 35),
        ("{}", 10, 9),
        ("{limits: {rpm: -1}}", 10, 24),
    ],
)
def test_a_mistake_in_a_pool_is_shown_where_it_stands(tmp_path: Path, pool: str, line: int, column: int) -> None:
    job = tmp_path / "job.yaml"
    job.write_text(
        "version: 1\ninput: {path: p.jsonl}\noutput: a.jsonl\nproviders:\n  fast:\n    use: openai-chat\n    model: m\n"
        f"    pool:\n      - {{api_key: env:A}}\n      - {pool}\n"
    )
    with pytest.raises(JobError) as caught:
        load_job(job, Registry())
    (problem,) = caught.value.problems
    assert problem.location is not None
    assert (problem.location.line, problem.location.column) == (line, column)
