"""The provider contract, run on the fakes, and proof that it catches what it is for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio
import pytest

from promptmill.errors import Transient
from promptmill.interfaces import RealtimeProvider
from promptmill.models import Request, Response, Usage
from promptmill.testing import EchoProvider, ProviderContract, ScriptedProvider, request
from promptmill.testing.leaks import Leftovers
from promptmill.testing.providers import check_response


class Hanging(EchoProvider):
    async def complete(self, request: Request, *, timeout: float) -> Response:
        await anyio.sleep_forever()
        raise AssertionError("woke up")


class TestEcho(ProviderContract):
    def make_provider(self) -> RealtimeProvider:
        return EchoProvider()

    def make_failing(self) -> RealtimeProvider:
        return ScriptedProvider([Transient("the server is away", retry_after=3)])

    def make_hanging(self) -> RealtimeProvider:
        return Hanging()


async def test_script_is_played_in_order() -> None:
    provider = ScriptedProvider(["a", Response(text="b"), Transient("no")])
    assert (await provider.complete(request(), timeout=1)).text == "a"
    assert (await provider.complete(request(), timeout=1)).text == "b"
    with pytest.raises(Transient):
        await provider.complete(request(id="3"), timeout=1)
    with pytest.raises(AssertionError, match="not in the script"):
        await provider.complete(request(), timeout=1)
    assert [one.id for one in provider.requests] == ["1", "1", "3", "1"]


@pytest.mark.parametrize(
    "response",
    [
        Response(text=None, usage=Usage(input_tokens=-1)),
        Response(text=None, usage=Usage(input_tokens=3, cached_tokens=4)),
        Response(text=None, usage=Usage(output_tokens=3, reasoning_tokens=4)),
    ],
)
def test_impossible_response_is_caught(response: Response) -> None:
    with pytest.raises(AssertionError):
        check_response(response)


async def test_leftover_task_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("promptmill.testing.leaks._PATIENCE_S", 0.05)
    leftovers = Leftovers()
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep_forever)
        with pytest.raises(AssertionError, match="left behind"):
            await leftovers.none()
        group.cancel_scope.cancel()
    await leftovers.none()


async def test_contract_catches_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    class Leaky(EchoProvider):
        def __init__(self) -> None:
            super().__init__()
            self.key = ProviderContract.canary

    class Contract(ProviderContract):
        def make_provider(self) -> RealtimeProvider:
            return Leaky()

    with pytest.raises(AssertionError):
        await Contract().test_shows_no_secret(caplog)


async def test_contract_catches_a_swallowed_cancellation() -> None:
    class Contract(ProviderContract):
        def make_hanging(self) -> RealtimeProvider:
            return Quick()

    class Quick(EchoProvider):
        async def complete(self, request: Request, *, timeout: float) -> Response:
            return Response(text="at once")

    with pytest.raises(AssertionError, match="swallowed"):
        await Contract().test_hanging_call_can_be_cancelled()


async def test_surroundings_enclose_the_provider() -> None:
    seen: list[str] = []

    class Contract(ProviderContract):
        @asynccontextmanager
        async def _server(self) -> AsyncIterator[None]:
            seen.append("server up")
            yield
            seen.append("server down")

        def surroundings(self) -> AbstractAsyncContextManager[object]:
            return self._server()

        def make_provider(self) -> RealtimeProvider:
            seen.append("made")
            return EchoProvider()

    await Contract().test_answers()
    assert seen == ["server up", "made", "server down"]
