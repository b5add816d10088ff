"""Worker processes make the calls, and a run does not notice but for the time it takes."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import pytest
from worker_providers import OneOnlyOptions, Scripted, ScriptedOptions

from promptmill import Message, Pipeline, Request
from promptmill.errors import JobError, RunStopped, StartError
from promptmill.interfaces import AttemptFailed, Observer
from promptmill.policies.exponential import ExponentialPolicy

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the test's providers kill themselves")


class Watching(Observer):
    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.failures: list[AttemptFailed] = []

    def warned(self, message: str) -> None:
        self.warnings.append(message)

    def attempt_failed(self, event: AttemptFailed) -> None:
        self.failures.append(event)


def options(folder: Path, **more: Any) -> ScriptedOptions:
    return ScriptedOptions(folder=folder, **{"max_concurrency": 8, **more})


def quick(attempts: int = 2) -> ExponentialPolicy:
    return ExponentialPolicy(attempts=attempts, base=0.01, cap=0.02, seed=1)


def notes(folder: Path) -> Counter[str]:
    return Counter(line.split()[0] for line in (folder / "notes").read_text().splitlines())


async def test_calls_are_made_in_as_many_other_processes_as_there_are_workers(tmp_path: Path) -> None:
    results = await Pipeline({"a": options(tmp_path)}, workers=3).gather(["pid"] * 300)
    made = Counter(one.text for one in results)
    assert len(made) == 3
    assert str(os.getpid()) not in made
    assert min(made.values()) >= 60, made  # each has its share


async def test_one_worker_is_this_process(tmp_path: Path) -> None:
    results = await Pipeline({"a": options(tmp_path)}, workers=1).gather(["pid"])
    assert results[0].text == str(os.getpid())


async def test_what_should_be_in_one_process_stays_there(tmp_path: Path) -> None:
    here = [str(os.getpid())] * 3
    only = await Pipeline({"a": OneOnlyOptions(folder=tmp_path)}, workers=2).gather(["pid"] * 3)
    given = await Pipeline({"a": Scripted(tmp_path, False, 0)}, workers=2).gather(["pid"] * 3)
    assert [one.text for one in only] == [one.text for one in given] == here


async def test_a_request_that_cannot_be_sent_elsewhere_is_answered_here(tmp_path: Path) -> None:
    odd = Request(id="1", messages=(Message("user", "pid"),), params={"stop": object()})  # type: ignore[dict-item]
    results = await Pipeline({"a": options(tmp_path)}, workers=2).gather([odd, "pid"])
    assert results[0].text == str(os.getpid()) != results[1].text


async def test_an_answer_comes_over_whole(tmp_path: Path) -> None:
    async with Scripted(tmp_path, False, 0) as provider:
        here = await provider.complete(
            Request(id="1", messages=(Message("user", "all \u00fc\ud83d\ude00"),)), timeout=1
        )
    (one,) = await Pipeline({"a": options(tmp_path)}, workers=2).gather(["all \u00fc\ud83d\ude00"])
    assert (one.text, one.finish_reason, one.model, one.tier, one.usage) == (
        here.text,
        here.finish_reason,
        here.model,
        here.tier,
        here.usage,
    )


async def test_an_answer_may_be_as_long_as_any(tmp_path: Path) -> None:
    long = "x" * 20_000_000
    results = await Pipeline({"a": options(tmp_path)}, workers=2).gather([f"all {long}", "pid", f"all {long}y"])
    assert [len(one.text or "") for one in results][::2] == [20_000_000, 20_000_001]
    assert results[1].ok


@pytest.mark.parametrize("name", ["Permanent", "Transient", "BadOutput", "NeverSent"])
async def test_failures_come_over_as_what_they_are(tmp_path: Path, name: str) -> None:
    watching = Watching()
    pipeline = Pipeline({"a": options(tmp_path)}, workers=2, observers=[watching], retry=quick(1))
    if name == "NeverSent":  # nothing was ever reached: that ends a run, and here only how it is told counts
        with pytest.raises(RunStopped), anyio.fail_after(30):
            async with pipeline.prepare() as run:
                await run.mill(_one("raise NeverSent", run))
                raise run.stopped or AssertionError
    else:
        (result,) = await pipeline.gather([f"raise {name}"])
        assert result.error is not None
        assert (result.error.code, result.error.message, result.error.http_status) == ("asked", "as asked", 418)
    assert type(watching.failures[0].failure).__name__ == name


async def _one(prompt: str, run: Any) -> Any:
    yield [Request(id="1", messages=(Message("user", prompt),))]
    await anyio.sleep(0.5)
    run.stop(RunStopped("enough", code="E0510", exit_code=130))


async def test_a_refusal_brings_what_the_provider_said_of_its_limits(tmp_path: Path) -> None:
    watching = Watching()
    pipeline = Pipeline({"a": options(tmp_path)}, workers=2, observers=[watching], retry=quick(1))
    await pipeline.gather(["raise Throttled"])
    failure: Any = watching.failures[0].failure
    assert (failure.code, failure.retry_after, failure.dimension, failure.request_id) == ("slow", 0.01, "tokens", "r")
    assert failure.limits[0].limit == 5.0


async def test_a_failure_that_cannot_be_sent_keeps_its_class_and_code(tmp_path: Path) -> None:
    (result,) = await Pipeline({"a": options(tmp_path)}, workers=2, retry=quick(1)).gather(["raise Unpicklable"])
    assert result.error is not None
    assert (result.error.code, result.error.http_status, result.error.retryable) == ("own", 502, True)


@pytest.mark.parametrize(
    ("word", "code"), [("bug", "provider_bug"), ("cancel", "provider_bug"), ("timeout", "timeout")]
)
async def test_a_bug_costs_its_request_and_says_where_it_is(tmp_path: Path, word: str, code: str) -> None:
    results = await Pipeline({"a": options(tmp_path)}, workers=2, retry=quick(1)).gather([f"raise {word}", "pid"])
    error = results[0].error
    assert error is not None
    assert error.code == code
    assert word != "bug" or ("a bug of the provider" in error.message and "do_raise" in error.message)
    assert results[1].ok


async def test_a_call_that_takes_too_long_ends_in_its_worker_too(tmp_path: Path) -> None:
    pipeline = Pipeline({"a": options(tmp_path, timeout=0.3)}, workers=2, retry=quick(1))
    results = await pipeline.gather(["hang", "pid", "hang", "pid"])
    assert [one.error.code if one.error else "ok" for one in results] == ["timeout", "ok", "timeout", "ok"]
    assert notes(tmp_path) == {"began": 2, "cancelled": 2}


async def test_closing_a_stream_early_ends_the_calls(tmp_path: Path) -> None:
    pipeline = Pipeline({"a": options(tmp_path)}, workers=2)
    stream = pipeline.stream(["pid", *["hang"] * 6])
    async for one in stream:
        assert one.text
        break
    await stream.aclose()
    assert notes(tmp_path)["began"] == notes(tmp_path)["cancelled"]


async def test_a_worker_that_dies_is_replaced_and_its_calls_are_made_again(tmp_path: Path) -> None:
    watching = Watching()
    pipeline = Pipeline({"a": options(tmp_path)}, workers=2, observers=[watching], retry=quick(5))
    results = await pipeline.gather(["pid"] * 20 + ["die 2"] + ["pid"] * 60)
    assert [one.id for one in results] == [str(at + 1) for at in range(81)]
    assert all(one.ok for one in results)
    assert results[20].text == "alive"
    lost = [one for one in watching.failures if one.failure.code == "worker_lost"]
    assert 2 <= len(lost) <= 2 * 8
    deaths = [one for one in watching.warnings if "died (SIGKILL)" in one]
    assert len(deaths) == 2
    assert len({one.text for one in results} - {"alive"}) >= 3  # a new process has its share


async def test_workers_that_die_one_after_the_other_end_the_run(tmp_path: Path) -> None:
    pipeline = Pipeline({"a": options(tmp_path, max_concurrency=1)}, workers=2, retry=quick(1000))
    with pytest.raises(RunStopped) as stopped, anyio.fail_after(20):
        await pipeline.gather(["pid", "die 1000"])
    assert stopped.value.code == "E0561"
    assert stopped.value.exit_code == 70
    assert [one.id for one in stopped.value.results] == ["1"]
    assert 5 <= notes(tmp_path)["died"] <= 7


async def test_nobody_waits_for_workers_that_do_not_come(tmp_path: Path) -> None:
    """All die at once, again and again, and the run ends without the time that calls in flight have to finish."""
    pipeline = Pipeline({"a": options(tmp_path, max_concurrency=8)}, workers=2, retry=quick(1000))
    async with pipeline:
        pipeline._opened.coordinator._deaths = 5  # type: ignore[attr-defined]
        with pytest.raises(RunStopped) as stopped, anyio.fail_after(20):
            await pipeline.gather(["die 1000"] * 30)
    assert stopped.value.code == "E0561"


async def test_what_workers_cannot_open_is_told_before_anything_is_sent(tmp_path: Path) -> None:
    given = options(tmp_path, fails_in_workers=True, opened_by=os.getpid())
    with pytest.raises(StartError, match="there can only be one of me") as failed:
        await Pipeline({"a": given}, workers=2).gather(["pid"])
    assert failed.value.code == "E0560"


async def test_a_pipeline_can_be_used_again_and_again(tmp_path: Path) -> None:
    pipeline = Pipeline({"a": options(tmp_path)}, workers=2)
    first = {one.text for one in await pipeline.gather(["pid"] * 20)}
    async with pipeline:
        second = {one.text for one in await pipeline.gather(["pid"] * 20)}
        third = {one.text for one in await pipeline.gather(["pid"] * 20)}
    assert second == third
    assert not first & second
    assert all(not _runs(int(pid or 0)) for pid in first | second)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_there_is_at_least_one(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="cannot be 0 workers"):
        Pipeline({"a": options(tmp_path)}, workers=0)
