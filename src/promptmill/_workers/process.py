"""One worker, as the process that coordinates sees it."""

from __future__ import annotations

import asyncio
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Final

from anyio import to_thread

from promptmill._workers.link import Link, linked
from promptmill._workers.messages import (
    Answered,
    Broken,
    Call,
    Cancel,
    Failed,
    FromWorker,
    Ready,
    Setup,
    decode_from_worker,
)
from promptmill.errors import StartError, Transient
from promptmill.models import Request, Response

_COMMAND: Final = ("-P", "-m", "promptmill._workers.worker")
_PATIENCE: Final = 5.0
"""Seconds a worker has to end by itself when its socket is closed."""

_LONGEST_START: Final = 60.0


class WorkerProcess:
    """``on_answer`` is called when a call came to its end, ``on_loss`` once when the process is gone."""

    def __init__(self, on_answer: Callable[[], None], on_loss: Callable[[WorkerProcess], None]) -> None:
        self._on_answer = on_answer
        self._on_loss = on_loss
        self._link = Link(decode_from_worker, self._take, self._lost)
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._calls: dict[int, asyncio.Future[Response]] = {}
        self._numbers = 0
        self._process: subprocess.Popen[bytes]
        self.is_alive = False

    @property
    def load(self) -> int:
        """Calls it is making."""
        return len(self._calls)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def start(self, setup: Setup) -> None:
        """Return when it can make calls. Raises StartError."""
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = await to_thread.run_sync(_started, theirs)
        try:
            await linked(self._link, ours)
            self._link.send(setup)
            async with asyncio.timeout(_LONGEST_START):
                await self._ready
        except BaseException as error:
            self._link.close()
            self._process.kill()
            self._process.wait()
            if isinstance(error, TimeoutError):
                message = f"a worker process did not start within {_LONGEST_START:g} s"
                raise StartError(message, code="E0560") from None
            raise
        self.is_alive = True

    async def call(self, provider: int, request: Request, timeout: float) -> Response:
        """What the provider with this place in the setup answers.

        Raises:
            ProviderError: it failed, or the process died (``worker_lost``).
            ValueError, OverflowError, TypeError, RecursionError: the request cannot be sent there.
        """
        self._numbers = number = self._numbers + 1
        self._link.send(Call(number, provider, request, timeout))
        future: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._calls[number] = future
        try:
            return await future
        finally:
            if self._calls.pop(number, None) is not None:
                self._link.send(Cancel(number))
            elif future.done() and not future.cancelled():
                future.exception()  # seen by whoever waited, unless that was cancelled at the same moment

    async def stop(self) -> None:
        """End it, with the calls it is making."""
        self.is_alive = False
        self._link.close()
        await to_thread.run_sync(_ended, self._process)

    async def exit_reason(self) -> str:
        """Why it is gone, in words."""
        code = await to_thread.run_sync(_ended, self._process)
        if code >= 0:
            return f"exit code {code}"
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"

    def _take(self, message: FromWorker) -> None:
        if isinstance(message, Answered | Failed):
            future = self._calls.pop(message.number, None)
            if future is not None and not future.done():
                if isinstance(message, Answered):
                    future.set_result(message.response)
                else:
                    future.set_exception(_loaded(message.error))
            self._on_answer()
        elif self._ready.done():
            return
        elif isinstance(message, Ready):
            self._ready.set_result(None)
        elif isinstance(message, Broken):
            self._ready.set_exception(StartError(f"a worker process cannot start: {message.reason}", code="E0560"))

    def _lost(self) -> None:
        if not self._ready.done():
            self._ready.set_exception(StartError("a worker process ended before it had started", code="E0560"))
        was_alive, self.is_alive = self.is_alive, False
        calls, self._calls = self._calls, {}
        for future in calls.values():
            if not future.done():
                future.set_exception(Transient("the worker process that made the call is gone", code="worker_lost"))
        if was_alive:
            self._on_loss(self)


def _started(end: socket.socket) -> subprocess.Popen[bytes]:
    command = [sys.executable, *_COMMAND]
    if sys.platform == "win32":
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)  # noqa: S603
        if process.stdin is not None:
            with process.stdin:
                process.stdin.write(end.share(process.pid))
        return process
    command.append(str(end.fileno()))
    return subprocess.Popen(  # noqa: S603 - our own program
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=(end.fileno(),)
    )


def _ended(process: subprocess.Popen[Any]) -> int:
    """Wait for its end, and see to it. Returns its exit code, or minus the signal that ended it."""
    try:
        return process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _loaded(error: bytes) -> BaseException:
    try:
        found = pickle.loads(error)  # noqa: S301 - our own child wrote it
    except Exception as problem:  # noqa: BLE001 - of a plugin's own class
        return RuntimeError(f"a worker process raised what cannot be read: {problem}")
    return found if isinstance(found, Exception) else RuntimeError(repr(found))
