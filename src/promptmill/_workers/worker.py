"""A worker process: it makes the calls it is told to make, until nobody is there to tell it.

Started by the process that coordinates, as ``python -P -m promptmill._workers.worker`` with the descriptor of its
socket. It notes nothing and decides nothing: when it dies, the calls it was making have failed, and when the other
process dies, it ends at once with all of its calls.
"""

from __future__ import annotations

import asyncio
import pickle
import signal
import socket
import sys
import traceback
from contextlib import AsyncExitStack
from typing import Any, Final

from promptmill._eventloop import loop_factory
from promptmill._garbage import seldom_collected
from promptmill._workers.link import Link, linked
from promptmill._workers.messages import (
    Answered,
    Broken,
    Call,
    Cancel,
    Failed,
    Ready,
    Setup,
    ToWorker,
    decode_to_worker,
)
from promptmill.errors import Permanent, PromptmillError, ProviderError
from promptmill.interfaces import RealtimeProvider

_FRAMES_TOLD: Final = 3


class Worker:
    """The calls of one process."""

    def __init__(self) -> None:
        self._link = Link(decode_to_worker, self._take, self._end)
        self._setup: asyncio.Future[Setup | None] = asyncio.get_running_loop().create_future()
        self._ended = asyncio.Event()
        self._providers: list[RealtimeProvider] = []
        self._calls: dict[int, asyncio.Task[None]] = {}

    async def run(self, end: socket.socket) -> None:
        await linked(self._link, end)
        setup = await self._setup
        if setup is None:
            return
        async with AsyncExitStack() as stack:
            try:
                await self._open(setup, stack)
            except Exception as error:  # noqa: BLE001 - whatever it is, those who wait for us should hear of it
                reason = error.message if isinstance(error, PromptmillError) else f"{type(error).__name__}: {error}"
                self._link.send(Broken(reason))
            else:
                self._link.send(Ready())
            await self._ended.wait()
            for task in self._calls.values():
                task.cancel()
            if self._calls:
                await asyncio.wait(self._calls.values())

    async def _open(self, setup: Setup, stack: AsyncExitStack) -> None:
        sys.path[:] = setup.path
        for options, context in pickle.loads(setup.providers):  # noqa: S301 - our parent wrote it
            self._providers.append(await stack.enter_async_context(options.build(context)))
        stack.enter_context(seldom_collected())

    def _take(self, message: ToWorker) -> None:
        if isinstance(message, Call):
            task = asyncio.get_running_loop().create_task(self._call(message))
            self._calls[message.number] = task
        elif isinstance(message, Cancel):
            if message.number in self._calls:
                self._calls[message.number].cancel()
        else:
            self._setup.set_result(message)

    def _end(self) -> None:
        if not self._setup.done():
            self._setup.set_result(None)
        self._ended.set()

    async def _call(self, call: Call) -> None:
        try:
            response = await self._providers[call.provider].complete(call.request, timeout=call.timeout)
            self._link.send(Answered(call.number, response))
        except asyncio.CancelledError as error:
            # Nobody waits for a call that was cancelled; one that cancels itself is a bug of its provider's.
            task = asyncio.current_task()
            if task is None or not task.cancelling():
                self._link.send(Failed(call.number, _pickled(error)))
        except Exception as error:  # noqa: BLE001 - the provider's failure, or its bug: that is for others to say
            self._link.send(Failed(call.number, _pickled(error)))
        finally:
            del self._calls[call.number]


def _pickled(error: BaseException) -> bytes:
    """``error`` as it is, if it is one that providers are meant to raise and can be pickled."""
    if isinstance(error, ProviderError):
        try:
            return pickle.dumps(error)
        except Exception:  # noqa: BLE001 - of a plugin's own class, with whatever in it
            return pickle.dumps(_plain(error))
    if isinstance(error, TimeoutError):
        return pickle.dumps(TimeoutError(str(error)))
    trace = "".join(traceback.format_exception(error, limit=-_FRAMES_TOLD))
    return pickle.dumps(RuntimeError(f"in a worker process:\n{trace}"))


def _plain(error: ProviderError) -> ProviderError:
    """The same failure without what cannot be sent."""
    kind: Any = next((one for one in type(error).__mro__ if one.__module__ == ProviderError.__module__), Permanent)
    plain = kind(error.message, code=error.code, http_status=error.http_status, retry_after=error.retry_after)
    assert isinstance(plain, ProviderError)  # noqa: S101
    return plain


def _given_end() -> socket.socket:
    """The socket that the parent gave us."""
    if sys.platform == "win32":
        return socket.fromshare(sys.stdin.buffer.read())
    return socket.socket(fileno=int(sys.argv[1]))


def main() -> None:
    # A terminal sends its signals to all processes of a run: those who coordinate decide what they mean.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    end = _given_end()

    async def work() -> None:
        await Worker().run(end)

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(work())


if __name__ == "__main__":
    main()
