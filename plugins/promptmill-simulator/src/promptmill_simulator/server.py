"""Runs a simulator on a real socket, in a thread with an event loop of its own."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import tempfile
import threading
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import anyio.to_thread

from promptmill.clock import Clock, SystemClock
from promptmill.errors import StartError, UsageError
from promptmill_simulator.answers import AnswerSource, Echo, Words
from promptmill_simulator.json_answers import JsonAnswers
from promptmill_simulator.options import SimulatorOptions

if TYPE_CHECKING:
    from promptmill_simulator.assembly import Assembly
    from promptmill_simulator.transport import StoppableServer


class Simulator:
    """A simulated API on loopback: ``async with Simulator(options) as sim: sim.base_url``; plain ``with`` works too.

    Args:
        options: what to simulate.
        answers: answers instead of the options' ``answers``; called on the simulator's own event loop.
        clock: the time it lives by.
    """

    def __init__(
        self,
        options: SimulatorOptions | None = None,
        *,
        answers: AnswerSource | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.options = options or SimulatorOptions.model_validate({})
        self._answers = answers
        self._clock = clock or SystemClock()
        self._ready = threading.Event()
        self._thread: threading.Thread | None = None
        self._socket: socket.socket | None = None
        self._server: StoppableServer | None = None
        self._assembly: Assembly | None = None
        self._failure: BaseException | None = None

    @property
    def url(self) -> str:
        """The address without a path, such as ``http://127.0.0.1:8000``."""
        if self._socket is None:
            raise UsageError("the simulator is not running; enter it with 'with' or call start()")
        host, port = self._socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def base_url(self) -> str:
        """What a client takes as its base URL, such as ``http://127.0.0.1:8000/v1``."""
        return f"{self.url}/v1"

    def ledger(self, entries: int | None = None) -> dict[str, Any]:
        """The simulator's books, as ``GET /_sim/ledger`` gives them. ``entries`` limits the entries included."""
        return self._running().ledger.summary(entries)

    def reset(self) -> None:
        """Start new books, fill the limits and forget the counts of the fault rules."""
        self._running().reset()

    def start(self) -> None:
        """Start to serve; returns when requests can come.

        Raises:
            StartError: the address cannot be used.
        """
        self._socket = _listen(self.options.host, self.options.port)
        self._thread = threading.Thread(target=self._serve, name="promptmill-simulator", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self.stop()
            raise self._failure

    def stop(self) -> None:
        """Stop serving. Requests in flight are cut off."""
        if self._server is not None:
            self._server.should_exit = True
        if self._thread is not None:
            self._thread.join()
        if self._socket is not None:
            self._socket.close()
        self._thread = self._server = self._assembly = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await anyio.to_thread.run_sync(self.start)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.stop)

    def _running(self) -> Assembly:
        if self._assembly is None:
            raise UsageError("the simulator is not running; enter it with 'with' or call start()")
        return self._assembly

    def _serve(self) -> None:
        # The server is imported when one is started: the command line lists commands without it.
        from uvicorn.loops.auto import auto_loop_factory

        try:
            with tempfile.TemporaryDirectory(prefix="promptmill-simulator-", ignore_cleanup_errors=True) as temporary:
                directory = self.options.data_dir or Path(temporary)
                directory.mkdir(parents=True, exist_ok=True)
                with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
                    runner.run(self._main(directory))
        except BaseException as error:  # noqa: BLE001
            # Whatever went wrong on this thread is raised again where the simulator is started.
            self._failure = error
        finally:
            self._ready.set()

    async def _main(self, directory: Path) -> None:
        from promptmill_simulator.assembly import assemble
        from promptmill_simulator.provider_answers import open_provider
        from promptmill_simulator.transport import StoppableServer, server_config

        if self._socket is None:
            raise UsageError("the simulator has no socket; call start()")
        async with AsyncExitStack() as stack:
            answers = self._answers
            if answers is None and self.options.answers_from is not None:
                answers = await stack.enter_async_context(open_provider(self.options.answers_from))
            if answers is None:
                words = JsonAnswers(Words(self.options.answer_tokens))
                answers = words if self.options.answers == "words" else Echo()
            self._assembly = assemble(self.options, answers, self._clock, directory)
            await stack.enter_async_context(self._assembly.runner)
            config = server_config(self._assembly.app, self.options.keep_alive)
            self._server = StoppableServer(config, self._ready)
            await self._server.serve(sockets=[self._socket])


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
    except OSError as error:
        raise StartError(f"{host!r} is no address to listen on: {error.strerror or error}") from error
    try:
        if not hasattr(socket, "SO_EXCLUSIVEADDRUSE"):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise StartError(
            f"port {port} of {host!r} cannot be used: {error.strerror or error}",
            hint="take another port, or 0 for a free one",
        ) from error
    return listener
