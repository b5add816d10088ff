"""Proof that each contract fails for a component that breaks it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic import ConfigDict

from promptmill.errors import ProviderError, Throttled
from promptmill.interfaces import Condition, Decision, Fallback, Position, Retry, RetryPolicy, Sink, Source
from promptmill.models import BadRow, Request, Result, Row
from promptmill.options import BuildContext, SinkOptions
from promptmill.sinks.memory import MemorySink
from promptmill.testing import ConditionContract, RetryPolicyContract, SinkContract, SourceContract, request

FAILED = (AssertionError, pytest.fail.Exception)


class Broken(MemorySink):
    """A memory sink with one thing wrong."""

    def __init__(self, wrong: str) -> None:
        super().__init__()
        self._wrong = wrong

    async def start(self, position: Position | None) -> None:
        if self._wrong == "takes foreign content":
            position = position or {"results": len(self.results)}
        if self._wrong != "keeps uncommitted":
            await super().start(position)

    async def write(self, results: Sequence[Result]) -> None:
        if self._wrong == "strips text":
            results = [msgspec.structs.replace(one, text=(one.text or "").strip()) for one in results]
        await super().write(results[:1] if self._wrong == "loses results" else results)


def contract_of(wrong: str) -> SinkContract:
    class Contract(SinkContract):
        sink = Broken(wrong)

        def make_sink(self) -> Sink:
            return self.sink

        def rows(self) -> Sequence[tuple[str, str | None]]:
            return [(one.id, one.text) for one in self.sink.results]

        def make_foreign(self) -> bool:
            self.sink.results.append(Result(id="x", index=0, status="ok"))
            return True

    return Contract()


@pytest.mark.parametrize(
    ("wrong", "test"),
    [
        ("loses results", SinkContract.test_committed_results_are_there),
        ("keeps uncommitted", SinkContract.test_uncommitted_results_are_dropped_on_restart),
        ("keeps uncommitted", SinkContract.test_older_position_drops_later_commits),
        ("keeps uncommitted", SinkContract.test_empty_position_starts_from_nothing),
        ("keeps uncommitted", SinkContract.test_opens_again_after_closing),
        ("takes foreign content", SinkContract.test_foreign_content_is_refused),
        ("strips text", SinkContract.test_hostile_text_comes_back),
    ],
)
async def test_broken_sink(wrong: str, test: Callable[[SinkContract], Any]) -> None:
    await test(contract_of(""))
    with pytest.raises(FAILED):
        await test(contract_of(wrong))


class Rows(Source):
    """Yields what it is told to, a pass at a time."""

    def __init__(self, passes: list[list[list[Row | BadRow]]], prints: list[str]) -> None:
        self._passes = iter(passes)
        self._prints = iter(prints)

    async def rows(self) -> AsyncIterator[Sequence[Row | BadRow]]:
        for group in next(self._passes):
            yield group

    async def fingerprint(self) -> str:
        return next(self._prints)


A, B = Row({"prompt": "a"}), Row({"prompt": "b"})


@pytest.mark.parametrize(
    ("source", "test"),
    [
        (Rows([[[A]], [[B]]], []), SourceContract.test_second_pass_is_the_same),
        (Rows([[[A], [], [B]]], []), SourceContract.test_groups_are_not_empty),
        (Rows([[[A, BadRow("x", "y")]]], []), SourceContract.test_bad_row_does_not_end_it),
        (Rows([], ["1", "2"]), SourceContract.test_fingerprint_follows_the_content),
        (Rows([], ["1"] * 99), SourceContract.test_fingerprint_follows_the_content),
        (Rows([[[A]]], [""]), SourceContract.test_empty_source),
    ],
)
async def test_broken_source(source: Source, test: Callable[[SourceContract], Any]) -> None:
    class Contract(SourceContract):
        def make_source(self) -> Source:
            return source

        def put_texts(self, texts: list[str]) -> None:
            pass

        def put_bad_between(self) -> bool:
            return True

    with pytest.raises(AssertionError):
        await test(Contract())


class Fixed:
    """A policy with one answer."""

    def __init__(self, answer: Decision) -> None:
        self._answer = answer

    def decide(self, failure: ProviderError, attempts: int, elapsed: float) -> Decision:
        return self._answer


def policy_contract(policy: RetryPolicy) -> RetryPolicyContract:
    class Contract(RetryPolicyContract):
        def make_policy(self) -> RetryPolicy:
            return policy

    return Contract()


def test_broken_policy() -> None:
    for answer in (Retry(-1.0), Retry(float("inf")), Retry(float("nan"))):
        with pytest.raises(AssertionError):
            policy_contract(Fixed(answer)).test_decides_on_everything(Throttled, None, 1)
    forever = policy_contract(Fixed(Retry(1.0)))
    with pytest.raises(FAILED, match="still retries"):
        forever.test_comes_to_an_end(Throttled)
    with pytest.raises(AssertionError):
        forever.test_hopeless_failures_are_not_retried(Throttled)
    with pytest.raises(AssertionError):
        forever.test_waits_as_long_as_asked(Throttled)
    policy_contract(Fixed(Fallback())).test_comes_to_an_end(Throttled)


class Forgetful:
    """A condition that changes its mind."""

    def __init__(self) -> None:
        self._answer = False

    def matches(self, request: Request) -> bool:
        self._answer = not self._answer
        return self._answer


def test_broken_condition() -> None:
    class Contract(ConditionContract):
        def make_condition(self) -> Condition:
            return Forgetful()

        def matching(self) -> Sequence[Request]:
            return [request(), request()]

        def others(self) -> Sequence[Request]:
            return [request()]

    for test in (
        Contract.test_holds,
        Contract.test_does_not_hold,
        Contract.test_same_answer_twice_and_request_untouched,
    ):
        with pytest.raises(AssertionError):
            test(Contract())


def test_forgotten_hooks_are_named(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="sets neither options_class"):
        SinkContract().make_sink()
    with pytest.raises(TypeError, match=r"override rows\(\)"):
        SinkContract().rows()
    with pytest.raises(TypeError, match=r"override put_texts\(\)"):
        SourceContract().put_texts([])
    with pytest.raises(TypeError, match=r"override matching\(\)"):
        ConditionContract().matching()
    with pytest.raises(TypeError, match=r"override others\(\)"):
        ConditionContract().others()


def test_options_that_take_anything_are_caught() -> None:
    class Loose(SinkOptions):
        model_config = ConfigDict(extra="allow")

        def build(self, context: BuildContext) -> Sink:
            return MemorySink()

    class Contract(SinkContract):
        options_class = Loose

    with pytest.raises(AssertionError):
        Contract().test_schema_builds()
    with pytest.raises(FAILED):
        Contract().test_unknown_option_is_refused()
