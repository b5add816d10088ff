"""The contract of a realtime provider."""

from __future__ import annotations

import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any, ClassVar, Final

import anyio
import pytest

from promptmill import jsontext
from promptmill.errors import ProviderError
from promptmill.interfaces import RealtimeProvider
from promptmill.models import Request, Response
from promptmill.testing.contract import Contract
from promptmill.testing.leaks import Leftovers
from promptmill.testing.records import request

CANARY: Final = "canary-5f1d2c7e-never-print-me"

_SHORT_S: Final = 0.2
"""Seconds a call is left running before it is cancelled."""


class ProviderContract(Contract):
    """Subclass it, name it ``Test...``, set ``options_class`` and :meth:`settings`, or override :meth:`make_provider`.

    Give :attr:`canary` to the provider as its secret where it takes one (for example through an environment variable
    and ``env:NAME``): the tests look for it in every text the provider shows.
    """

    canary: ClassVar[str] = CANARY
    calls_at_once: ClassVar[int] = 8
    call_timeout: ClassVar[float] = 30.0
    """Seconds an answer may take."""

    def surroundings(self) -> AbstractAsyncContextManager[object]:
        """What must be there while the provider lives, for example a server. Entered before ``make_...``."""
        return nullcontext()

    def make_provider(self) -> RealtimeProvider:
        """A provider, not opened, that can answer :meth:`good_request`."""
        provider = self.build()
        assert isinstance(provider, RealtimeProvider)
        return provider

    def good_request(self, number: int = 1) -> Request:
        """A request the provider answers; ``number`` makes it distinct."""
        return request(f"Say the number {number}.", id=f"contract-{number}", params={"max_tokens": 8})

    def make_failing(self) -> RealtimeProvider | None:
        """A provider, not opened, whose calls fail; None when there is no way to make one."""
        return None

    def make_hanging(self) -> RealtimeProvider | None:
        """A provider, not opened, whose calls take far longer than a second; None when there is none."""
        return None

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[RealtimeProvider]:
        async with self.surroundings():
            leftovers = Leftovers()
            async with self.make_provider() as provider:
                yield provider
            await leftovers.none()

    async def _complete(self, provider: RealtimeProvider, number: int = 1) -> Response:
        with anyio.fail_after(self.call_timeout):
            return await provider.complete(self.good_request(number), timeout=self.call_timeout)

    async def test_closes_without_a_call(self) -> None:
        async with self._opened() as provider:
            assert isinstance(provider, RealtimeProvider)

    async def test_closes_twice(self) -> None:
        async with self._opened() as provider:
            await provider.aclose()

    async def test_closes_without_being_opened(self) -> None:
        """An ``aopen`` that fails half-way is followed by ``aclose`` too."""
        async with self.surroundings():
            leftovers = Leftovers()
            await self.make_provider().aclose()
            await leftovers.none()

    async def test_answers(self) -> None:
        async with self._opened() as provider:
            check_response(await self._complete(provider))

    async def test_answers_many_at_once(self) -> None:
        answers: list[Response] = []

        async def ask(number: int) -> None:
            answers.append(await self._complete(provider, number))

        async with self._opened() as provider:
            async with anyio.create_task_group() as group:
                for number in range(self.calls_at_once):
                    group.start_soon(ask, number)
            assert len(answers) == self.calls_at_once
            for answer in answers:
                check_response(answer)

    async def test_leaves_the_request_alone(self) -> None:
        ours = self.good_request()
        before = jsontext.encode(ours)
        async with self._opened() as provider:
            with anyio.fail_after(self.call_timeout):
                await provider.complete(ours, timeout=self.call_timeout)
        assert jsontext.encode(ours) == before

    async def test_answers_after_a_cancelled_call(self) -> None:
        async with self._opened() as provider:
            async with anyio.create_task_group() as group:
                group.start_soon(self._complete, provider)
                await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
            check_response(await self._complete(provider))

    async def test_hanging_call_can_be_cancelled(self) -> None:
        async with self.surroundings():
            leftovers = Leftovers()
            provider = self.make_hanging() or pytest.skip("no hanging provider to test with")
            async with provider:
                with anyio.move_on_after(_SHORT_S) as scope:
                    await provider.complete(self.good_request(), timeout=self.call_timeout)
                assert scope.cancelled_caught, "the call ended by itself or swallowed the cancellation"
            await leftovers.none()

    async def test_timeout_is_a_provider_error_at_most(self) -> None:
        """A provider may keep the time itself; then it says so with a ProviderError, not with TimeoutError."""
        async with self.surroundings():
            provider = self.make_hanging() or pytest.skip("no hanging provider to test with")
            async with provider:
                with anyio.move_on_after(2 * _SHORT_S) as scope:
                    with pytest.raises(ProviderError):
                        await provider.complete(self.good_request(), timeout=_SHORT_S)
                    return
                assert scope.cancelled_caught

    async def test_failure_is_a_provider_error(self) -> None:
        async with self.surroundings():
            leftovers = Leftovers()
            provider = self.make_failing() or pytest.skip("no failing provider to test with")
            async with provider:
                with pytest.raises(ProviderError) as caught:
                    await self._complete(provider)
            failure = caught.value
            assert failure.message
            assert failure.code
            assert failure.retry_after is None or failure.retry_after >= 0
            jsontext.encode(failure.info())
            shown = [str(failure), repr(failure), *traceback.format_exception(failure)]
            assert not [text for text in shown if self.canary in text]
            await leftovers.none()

    async def test_shows_no_secret(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(0)
        async with self._opened() as provider:
            answer = await self._complete(provider)
            shown = [*texts_of(provider), repr(answer), caplog.text]
        if self.options_class is not None:
            options = self.options_class.model_validate(self.settings())
            shown += [repr(options), str(options), options.model_dump_json()]
        assert not [text for text in shown if self.canary in text]

    async def test_estimates_without_opening(self) -> None:
        async with self.surroundings():
            provider = self.make_provider()
            few = provider.estimate(request("word"))
            many = provider.estimate(request("word " * 1000))
        assert 0 < few.input_tokens < many.input_tokens
        assert few.output_tokens is None or few.output_tokens >= 0


def check_response(response: Response) -> None:
    """Assert that a response keeps to what :class:`Response` promises."""
    assert isinstance(response, Response)
    assert response.text is None or isinstance(response.text, str)
    assert isinstance(response.body, bytes)
    usage = response.usage
    counts = (usage.input_tokens, usage.cached_tokens, usage.output_tokens, usage.reasoning_tokens)
    assert all(count is None or count >= 0 for count in counts)
    assert (usage.cached_tokens or 0) <= (usage.input_tokens or usage.cached_tokens or 0)
    assert (usage.reasoning_tokens or 0) <= (usage.output_tokens or usage.reasoning_tokens or 0)
    jsontext.encode(response.text)


def texts_of(thing: Any) -> Iterator[str]:
    """How ``thing`` and its attributes print."""
    yield repr(thing)
    yield str(thing)
    for name, value in getattr(thing, "__dict__", {}).items():
        yield f"{name}={value!r}"
