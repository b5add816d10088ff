"""The contract every realtime provider keeps, for the threaded base and for provider ``python``."""

from __future__ import annotations

import threading

import anyio
import pytest

from promptmill.errors import Permanent
from promptmill.interfaces import RealtimeProvider
from promptmill.models import Request
from promptmill.testing import ProviderContract
from promptmill_local import Answer, FunctionProvider, ThreadedProvider


def echo(request: Request) -> str:
    return request.messages[0].text


async def echo_later(request: Request) -> str:
    await anyio.lowlevel.checkpoint()
    return request.messages[0].text


def refuse(request: Request) -> str:
    raise Permanent("never")


async def hang(request: Request) -> str:
    await anyio.sleep_forever()
    raise AssertionError("unreachable")


class HangsUntilAbandoned(ThreadedProvider):
    def generate(self, request: Request) -> Answer:
        while not self.abandoned():
            threading.Event().wait(0.005)
        return "too late"


class TestFunction(ProviderContract):
    def make_provider(self) -> RealtimeProvider:
        return FunctionProvider(echo)

    def make_failing(self) -> RealtimeProvider:
        return FunctionProvider(refuse)

    def make_hanging(self) -> RealtimeProvider:
        return HangsUntilAbandoned()


class TestCoroutineFunction(ProviderContract):
    def make_provider(self) -> RealtimeProvider:
        return FunctionProvider(echo_later)

    def make_hanging(self) -> RealtimeProvider:
        return FunctionProvider(hang)


class TestBatches(ProviderContract):
    def make_provider(self) -> RealtimeProvider:
        class Batched(ThreadedProvider):
            def generate(self, request: Request) -> Answer:
                return request.messages[0].text

        return Batched(slots=2, max_batch=3)


async def test_a_provider_that_is_not_open_says_so() -> None:
    provider = FunctionProvider(echo)
    with pytest.raises(RuntimeError, match="FunctionProvider is not open"):
        await provider.complete(Request(id="1"), timeout=1)
