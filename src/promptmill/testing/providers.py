"""The contract of a realtime provider."""

from __future__ import annotations

from typing import ClassVar

import anyio
import pytest

from promptmill import jsontext
from promptmill.errors import ProviderError
from promptmill.interfaces import RealtimeProvider
from promptmill.models import Response
from promptmill.testing.anyprovider import SHORT_S, AnyProviderContract, texts_of
from promptmill.testing.leaks import Leftovers


class ProviderContract(AnyProviderContract[RealtimeProvider]):
    """Subclass it, name it ``Test...``, set ``options_class`` and :meth:`settings`, or override :meth:`make_provider`.

    Give :attr:`canary` to the provider as its secret where it takes one (for example through an environment variable
    and ``env:NAME``): the tests look for it in every text the provider shows.
    """

    calls_at_once: ClassVar[int] = 8

    def make_provider(self) -> RealtimeProvider:
        """A provider, not opened, that can answer :meth:`good_request`."""
        provider = self.build()
        assert isinstance(provider, RealtimeProvider)
        return provider

    async def _complete(self, provider: RealtimeProvider, number: int = 1) -> Response:
        with anyio.fail_after(self.call_timeout):
            return await provider.complete(self.good_request(number), timeout=self.call_timeout)

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
                with anyio.move_on_after(SHORT_S) as scope:
                    await provider.complete(self.good_request(), timeout=self.call_timeout)
                assert scope.cancelled_caught, "the call ended by itself or swallowed the cancellation"
            await leftovers.none()

    async def test_timeout_is_a_provider_error_at_most(self) -> None:
        """A provider may keep the time itself; then it says so with a ProviderError, not with TimeoutError."""
        async with self.surroundings():
            provider = self.make_hanging() or pytest.skip("no hanging provider to test with")
            async with provider:
                with anyio.move_on_after(2 * SHORT_S) as scope:
                    with pytest.raises(ProviderError):
                        await provider.complete(self.good_request(), timeout=SHORT_S)
                    return
                assert scope.cancelled_caught

    async def test_failure_is_a_provider_error(self) -> None:
        async with self.surroundings():
            leftovers = Leftovers()
            provider = self.make_failing() or pytest.skip("no failing provider to test with")
            async with provider:
                with pytest.raises(ProviderError) as caught:
                    await self._complete(provider)
            self._check_failure(caught.value)
            await leftovers.none()

    async def test_shows_no_secret(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(0)
        async with self._opened() as provider:
            answer = await self._complete(provider)
            self._check_shown([*texts_of(provider), repr(answer), caplog.text])


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
