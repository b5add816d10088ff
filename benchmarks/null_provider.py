"""A provider that answers without a network: it gives other tasks their turn once, as any call does."""

from __future__ import annotations

import asyncio
from typing import Final

from pydantic import Field

from promptmill.errors import QuotaExhausted
from promptmill.interfaces import RealtimeProvider
from promptmill.models import Request, Response, Usage
from promptmill.options import BuildContext, ProviderOptions

_USAGE: Final = Usage(input_tokens=120, cached_tokens=0, output_tokens=45, reasoning_tokens=0)
_TEXT: Final = "The answer is forty-two, and here is why it is so. " * 4
_BODY: Final = b"x" * 769


class NullProvider(RealtimeProvider):
    """Refuses the request named ``last`` as an account without money does, so that a run ends one short."""

    model = "null"

    def __init__(self, last: str | None) -> None:
        self._last = last

    async def complete(self, request: Request, *, timeout: float) -> Response:
        del timeout
        await asyncio.sleep(0)
        if request.id == self._last:
            raise QuotaExhausted("this is where the first process is meant to stop", code="quota_exhausted")
        return Response(text=_TEXT, finish_reason="stop", model="null", usage=_USAGE, request_id="req_0", body=_BODY)


class NullOptions(ProviderOptions):
    how_only = ProviderOptions.how_only | {"last"}  # or the second process would be told that the job has changed

    last: str | None = Field(None, description="The id of the request that is refused.")

    def build(self, context: BuildContext) -> NullProvider:
        del context
        return NullProvider(self.last)
