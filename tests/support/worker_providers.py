"""Providers that worker processes can open: they find this module where the tests do."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import anyio
from pydantic import Field

from promptmill.errors import PluginError, ProviderError, Throttled, Transient
from promptmill.interfaces import RealtimeProvider
from promptmill.models import LimitReading, Request, Response, Usage
from promptmill.options import BuildContext, ProviderOptions


class Unpicklable(Transient):
    """Of a plugin's own, with something in it that cannot be sent."""

    def __init__(self, message: str, **rest: Any) -> None:
        super().__init__(message, **rest)
        self.handle = (one for one in ())


class Scripted(RealtimeProvider):
    """Does what the prompt says, and notes in files what it did."""

    model = "scripted"

    def __init__(self, folder: Path, fails_in_workers: bool, opened_by: int) -> None:
        self._folder = folder
        self._fails_in_workers = fails_in_workers
        self._opened_by = opened_by

    async def aopen(self) -> None:
        if self._fails_in_workers and os.getpid() != self._opened_by:
            raise PluginError("there can only be one of me")

    def note(self, what: str) -> None:
        with (self._folder / "notes").open("a") as file:
            file.write(f"{what} {os.getpid()}\n")

    async def complete(self, request: Request, *, timeout: float) -> Response:
        word, _, rest = request.messages[0].text.partition(" ")
        result = await getattr(self, f"do_{word}")(request, rest)
        return result if isinstance(result, Response) else Response(text=str(result))

    async def do_pid(self, request: Request, rest: str) -> int:
        await asyncio.sleep(0.005)
        return os.getpid()

    async def do_all(self, request: Request, rest: str) -> Response:
        """A response with every field set."""
        return Response(
            text=rest,
            finish_reason="stop",
            model="other",
            tier="flex",
            usage=Usage(input_tokens=1, cached_tokens=2, output_tokens=3, reasoning_tokens=4),
            request_id="req",
            body=b"\x00raw\xff",
            limits=(LimitReading(what="requests", window=60.0, limit=10.0, remaining=9.0, reset_in=1.5),),
            first_byte_s=0.25,
        )

    async def do_raise(self, request: Request, rest: str) -> None:
        import promptmill.errors as errors

        if rest == "Throttled":
            error: ProviderError = Throttled(
                "slowly", code="slow", http_status=429, retry_after=0.01, request_id="r", dimension="tokens"
            )
            error.limits = (LimitReading(what="tokens", limit=5.0),)
            raise error
        if rest == "Unpicklable":
            raise Unpicklable("mine", code="own", http_status=502)
        if rest == "bug":
            raise ValueError("a bug of the provider")
        if rest == "cancel":
            raise asyncio.CancelledError
        if rest == "timeout":
            raise TimeoutError("too long")
        raise getattr(errors, rest)("as asked", code="asked", http_status=418)

    async def do_hang(self, request: Request, rest: str) -> None:
        self.note("began")
        try:
            await anyio.sleep(60)
        except asyncio.CancelledError:
            self.note("cancelled")
            raise

    async def do_die(self, request: Request, rest: str) -> str:
        """Kill this process, until it has been tried often enough."""
        self.note("died")
        notes = (self._folder / "notes").read_text().splitlines()
        if len(notes) <= int(rest):
            os.kill(os.getpid(), signal.SIGKILL)
        return "alive"


class ScriptedOptions(ProviderOptions):
    """``fails_in_workers``: it cannot be opened but in the process that ``opened_by`` names."""

    folder: Path = Field(description="Where notes are left.")
    fails_in_workers: bool = Field(False, description="Whether workers cannot open it.")
    opened_by: int = Field(0, description="The process that can.")

    def build(self, context: BuildContext) -> Scripted:
        return Scripted(self.folder, self.fails_in_workers, self.opened_by)


class OneOnly(Scripted):
    in_one_process = True


class OneOnlyOptions(ScriptedOptions):
    def build(self, context: BuildContext) -> OneOnly:
        return OneOnly(self.folder, False, 0)
