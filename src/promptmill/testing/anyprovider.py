"""What the contracts of realtime and of batch providers share."""

from __future__ import annotations

import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any, ClassVar, Final, Generic, TypeVar, cast

from promptmill import jsontext
from promptmill.errors import ProviderError
from promptmill.interfaces import Provider
from promptmill.models import Request
from promptmill.testing.contract import Contract
from promptmill.testing.leaks import Leftovers
from promptmill.testing.records import request

CANARY: Final = "canary-5f1d2c7e-never-print-me"

SHORT_S: Final = 0.2
"""Seconds a call is left running before it is cancelled."""

P = TypeVar("P", bound=Provider)


class AnyProviderContract(Contract, Generic[P]):
    """Base of the contracts of providers."""

    canary: ClassVar[str] = CANARY
    call_timeout: ClassVar[float] = 30.0
    """Seconds an answer may take."""

    def surroundings(self) -> AbstractAsyncContextManager[object]:
        """What must be there while the provider lives, for example a server. Entered before ``make_...``."""
        return nullcontext()

    def make_provider(self) -> P:
        """A provider, not opened, that can answer :meth:`good_request`."""
        return cast("P", self.build())

    def good_request(self, number: int = 1) -> Request:
        """A request the provider answers; ``number`` makes it distinct."""
        return request(f"Say the number {number}.", id=f"contract-{number}", params={"max_tokens": 16})

    def make_failing(self) -> P | None:
        """A provider, not opened, whose calls fail; None when there is no way to make one."""
        return None

    def make_hanging(self) -> P | None:
        """A provider, not opened, whose calls take far longer than a second; None when there is none."""
        return None

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[P]:
        async with self.surroundings():
            leftovers = Leftovers()
            async with self.make_provider() as provider:
                yield provider
            await leftovers.none()

    async def test_closes_without_a_call(self) -> None:
        async with self._opened() as provider:
            assert isinstance(provider, Provider)

    async def test_closes_twice(self) -> None:
        async with self._opened() as provider:
            await provider.aclose()

    async def test_closes_without_being_opened(self) -> None:
        """An ``aopen`` that fails half-way is followed by ``aclose`` too."""
        async with self.surroundings():
            leftovers = Leftovers()
            await self.make_provider().aclose()
            await leftovers.none()

    async def test_estimates_without_opening(self) -> None:
        async with self.surroundings():
            provider = self.make_provider()
            few = provider.estimate(request("word"))
            many = provider.estimate(request("word " * 1000))
        assert 0 < few.input_tokens < many.input_tokens
        assert few.output_tokens is None or few.output_tokens >= 0

    def _check_failure(self, failure: ProviderError) -> None:
        assert failure.message
        assert failure.code
        assert failure.retry_after is None or failure.retry_after >= 0
        jsontext.encode(failure.info())
        self._check_shown([str(failure), repr(failure), *traceback.format_exception(failure)])

    def _check_shown(self, shown: list[str]) -> None:
        if self.options_class is not None:
            options = self.options_class.model_validate(self.settings())
            shown = [*shown, repr(options), str(options), options.model_dump_json()]
        assert not [text for text in shown if self.canary in text]


def texts_of(thing: Any) -> Iterator[str]:
    """How ``thing`` and its attributes print."""
    yield repr(thing)
    yield str(thing)
    for name, value in getattr(thing, "__dict__", {}).items():
        yield f"{name}={value!r}"
