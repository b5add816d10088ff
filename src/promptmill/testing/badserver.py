"""A server that misbehaves on purpose: for the tests of whoever talks HTTP.

It listens on a loopback port and plays a script: one answer for each request, over all connections in the order the
requests come in; the last answer is repeated. An answer is some bytes, or a list of steps:

::

    script = [
        http_reply(b'{"ok": true}'),                    # a whole reply; the connection stays open
        [Send(http_reply(b"x" * 100)[:50]), Close()],   # cut short
        [Send(http_reply(b"slow"), every=0.01)],        # a byte every 10 ms
        [Hang()],                                       # no answer until the client gives up
        [Reset()],                                      # a TCP reset
    ]
    async with BadServer(script) as server:
        ...  # ask server.url, look at server.requests

Nothing here protects the server: never let it listen where others can reach it.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import sys
import zlib
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Final, Self, TypeAlias

import msgspec

_LONGEST_HEAD: Final = 1024 * 1024
_BLOCK: Final = 64 * 1024


class Send(msgspec.Struct, frozen=True):
    """Send ``data``; at once, or in pieces of ``size`` bytes with ``every`` seconds after each."""

    data: bytes
    every: float = 0.0
    size: int = 1


class Pause(msgspec.Struct, frozen=True):
    """Do nothing for ``seconds``."""

    seconds: float


class Hang(msgspec.Struct, frozen=True):
    """Do nothing until the client closes the connection."""


class Close(msgspec.Struct, frozen=True):
    """Close the connection. After a whole reply: as a server does whose keep-alive time is over."""


class Reset(msgspec.Struct, frozen=True):
    """Break the connection with a TCP reset."""


Step: TypeAlias = Send | Pause | Hang | Close | Reset
Answer: TypeAlias = bytes | Sequence[Step]


class Received(msgspec.Struct, frozen=True):
    """A request as it came in. ``headers`` have lower-case names, and of several with one name all values, with commas
    between; ``connection`` counts from 0."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    connection: int


class BadServer:
    """Plays a script to whoever connects.

    Args:
        script: the answers, or a function that is given each request and returns its answer.
        greeting: steps to play as soon as a connection is made, before any request is read.
        tls: a server-side context; then ``url`` begins with https.

    Attributes:
        requests: what was received, in order; also those that got no answer.
        connections: how many connections were made.
        hung_up: how many connections the client closed by itself.
        port: where it listens, once it is entered.
    """

    def __init__(
        self,
        script: Iterable[Answer] | Callable[[Received], Answer] = (),
        *,
        greeting: Answer = (),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._answer = script if callable(script) else _player(script)
        self._greeting = greeting
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self._sockets: list[socket.socket] = []
        self.requests: list[Received] = []
        self.connections = 0
        self.hung_up = 0
        self.port = 0

    @property
    def url(self) -> str:
        """Scheme, host and port, without a slash at the end, once it is entered."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    async def wait_for(self, condition: Callable[[BadServer], bool], timeout: float = 5.0) -> None:
        """Wait until ``condition`` holds, for example ``lambda server: server.hung_up == 1``.

        Raises:
            TimeoutError: it does not within ``timeout`` seconds.
        """
        async with asyncio.timeout(timeout):
            while not condition(self):  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    async def __aenter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self._start(self._listen())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        # An aborted transport lets go of its socket in the next turn of the loop.
        await asyncio.sleep(0)
        for one in (self._listener, *self._sockets):
            one.close()

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _listen(self) -> None:
        """Accept connections; by hand, as asyncio's own server leaks one that arrives while it is being closed."""
        loop = asyncio.get_running_loop()
        while True:
            accepted, _ = await loop.sock_accept(self._listener)
            self._sockets.append(accepted)
            self._start(self._serve(self.connections, accepted))
            self.connections += 1

    async def _serve(self, number: int, accepted: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=_LONGEST_HEAD, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        try:
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, accepted, ssl=self._tls)
        except OSError:
            # The client did not like our certificate, or is gone.
            return
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        self._writers.append(writer)
        try:
            goes_on = await self._play(self._greeting, reader, writer)
            while goes_on:
                request = await _receive(number, reader)
                if request is None:
                    self.hung_up += 1
                    return
                self.requests.append(request)
                goes_on = await self._play(self._answer(request), reader, writer)
        except OSError:
            self.hung_up += 1
        finally:
            writer.close()

    async def _play(self, answer: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Do the steps; False when the connection is over."""
        for step in [Send(answer)] if isinstance(answer, bytes) else answer:
            match step:
                case Send():
                    await _send(step, writer)
                case Pause():
                    await asyncio.sleep(step.seconds)
                case Hang():
                    while await reader.read(_BLOCK):
                        pass
                    self.hung_up += 1
                    return False
                case Reset():
                    _reset(writer)
                    return False
                case Close():
                    return False
        return True


def http_reply(
    body: bytes = b"{}",
    *,
    status: int = 200,
    headers: Iterable[tuple[str, str]] = (("content-type", "application/json"),),
    length: int | None = None,
) -> bytes:
    """A whole reply; ``length`` is what ``content-length`` says when it shall lie."""
    return _head(status, [*headers, ("content-length", str(len(body) if length is None else length))]) + body


def chunked_reply(
    chunks: Iterable[bytes],
    *,
    status: int = 200,
    headers: Iterable[tuple[str, str]] = (("content-type", "application/json"),),
    complete: bool = True,
) -> bytes:
    """A reply in chunks; without the last, empty one unless ``complete``."""
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return _head(status, [*headers, ("transfer-encoding", "chunked")]) + body + (b"0\r\n\r\n" if complete else b"")


def gzip_bomb(size: int) -> bytes:
    """A gzip file of ``size`` zero bytes: about a thousandth of that."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    zeros = bytes(1024 * 1024)
    parts = [deflater.compress(zeros) for _ in range(size // len(zeros))]
    parts.append(deflater.compress(bytes(size % len(zeros))))
    parts.append(deflater.flush())
    return b"".join(parts)


def _head(status: int, headers: Iterable[tuple[str, str]]) -> bytes:
    lines = [f"HTTP/1.1 {status} Because", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def _player(script: Iterable[Answer]) -> Callable[[Received], Answer]:
    answers = list(script) or [http_reply()]
    position = 0

    def answer(_: Received) -> Answer:
        nonlocal position
        position += 1
        return answers[min(position, len(answers)) - 1]

    return answer


async def _receive(number: int, reader: asyncio.StreamReader) -> Received | None:
    """One request, or None when the client has closed the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        method, target, _ = first.split(" ", 2)
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            name, value = name.strip().lower(), value.strip()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        body = await reader.readexactly(int(headers.get("content-length", 0)))
    except asyncio.IncompleteReadError:
        return None
    return Received(method, target, headers, body, number)


async def _send(step: Send, writer: asyncio.StreamWriter) -> None:
    pieces = [step.data]
    if step.every:
        pieces = [step.data[start : start + step.size] for start in range(0, len(step.data), step.size)]
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        if step.every:
            await asyncio.sleep(step.every)


def _reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    # With a linger time of zero, closing sends a reset instead of the orderly end.
    linger = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()
