"""Providers that need no model: one echoes, one plays a script."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import anyio.lowlevel

from promptmill.interfaces import RealtimeProvider
from promptmill.models import Request, Response, Usage


class EchoProvider(RealtimeProvider):
    """Answers with the text of the last message. Usage counts words."""

    model = "echo"

    def __init__(self) -> None:
        self.calls = 0

    async def complete(self, request: Request, *, timeout: float) -> Response:
        self.calls += 1
        await anyio.lowlevel.checkpoint()
        text = request.messages[-1].text if request.messages else ""
        words = len(text.split())
        return Response(
            text=text,
            finish_reason="stop",
            model=request.model or self.model,
            usage=Usage(input_tokens=words, cached_tokens=0, output_tokens=words, reasoning_tokens=0),
        )


class ScriptedProvider(RealtimeProvider):
    """Plays ``script`` one entry a call, in order: a text or response is returned, an exception is raised.

    ``requests`` holds every request seen. A call beyond the end of the script is an AssertionError.
    """

    model = "scripted"

    def __init__(self, script: Iterable[str | Response | Exception]) -> None:
        self._script = deque(script)
        self.requests: list[Request] = []

    async def complete(self, request: Request, *, timeout: float) -> Response:
        self.requests.append(request)
        await anyio.lowlevel.checkpoint()
        if not self._script:
            raise AssertionError(f"call {len(self.requests)} for request {request.id!r} is not in the script")
        entry = self._script.popleft()
        if isinstance(entry, Exception):
            raise entry
        return Response(text=entry, finish_reason="stop", model=self.model) if isinstance(entry, str) else entry
