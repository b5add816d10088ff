"""One request and one reply over a connection of aiohttp's pool, without the layers of its session.

``ClientSession`` costs more than the rest of a call together: it makes a request, a response, a writer and a task for
every one. The pool, the way to a server (names, TLS, proxies) and the parser are aiohttp's; what is written to the
connection and in which order it is read is here. Measured in ``benchmarks/part_http.py``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Final

import aiohttp
import anyio
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import RawResponseMessage, StreamWriter

from promptmill.http._aiohttp_target import Target
from promptmill.http._uploading import PIECE_BYTES, FileForm

_LARGE_BODY: Final = 1024 * 1024
"""Bytes. Longer ones are written in pieces, so that a slow server makes us wait and not hold two of them."""
_LONGEST_HEADER: Final = 64 * 1024
_MOST_HEADERS: Final = 256

Body = bytes | FileForm | None


class Exchange:
    """Ask with :meth:`begin`, read ``content``, then :meth:`end`; after anything that went wrong :meth:`abort`."""

    __slots__ = ("_connection", "_protocol", "_sent_at", "_writing", "content", "first_byte_s", "message")

    message: RawResponseMessage
    content: aiohttp.StreamReader
    first_byte_s: float
    """Seconds from when the connection was there to the reply's head."""

    def __init__(self, connection: Connection) -> None:
        protocol = connection.protocol
        assert protocol is not None  # noqa: S101 - it is there until the connection is given back
        self._connection = connection
        self._protocol: ResponseHandler = protocol
        self._writing: asyncio.Task[None] | None = None
        self._sent_at = time.perf_counter()

    async def begin(self, target: Target, body: Body) -> None:
        """Send the request and wait for the reply's head."""
        protocol = self._protocol
        protocol.set_response_params(
            skip_payload=target.has_no_reply_body,
            read_until_eof=True,
            auto_decompress=False,
            max_line_size=_LONGEST_HEADER,
            max_field_size=_LONGEST_HEADER,
            max_headers=_MOST_HEADERS,
        )
        transport = protocol.transport
        if transport is None or transport.is_closing():
            raise aiohttp.ClientConnectionResetError("it was closed before the request was sent")
        if body is None:
            transport.write(target.head(None))
        elif isinstance(body, FileForm):
            self._writing = asyncio.create_task(self._write(target.head(body.length), body.pieces()))
        elif len(body) <= _LARGE_BODY:
            transport.write(target.head(len(body)) + body)
        else:
            self._writing = asyncio.create_task(self._write(target.head(len(body)), _pieces(body)))
        message, content = await protocol.read()
        while 100 <= message.code <= 199 and message.code != 101:
            # RFC 9110, section 15.2: it only says that the real one will come.
            message, content = await protocol.read()
        self.first_byte_s = time.perf_counter() - self._sent_at
        self.message, self.content = message, content

    async def end(self) -> None:
        """The reply was read: the connection may serve again, if nothing is left in it."""
        if self._writing is not None and not self._writing.done():
            # The server answered before it had everything, as with 413.
            await self.abort()
        else:
            self._connection.release()

    async def abort(self) -> None:
        """Close the connection at once, also if something is still to be sent."""
        self._protocol.abort()
        self._connection.close()
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.cancel()
            with anyio.CancelScope(shield=True):
                await asyncio.wait((writing,))

    async def _write(self, head: bytes, pieces: AsyncIterator[bytes]) -> None:
        protocol = self._protocol
        try:
            writer = StreamWriter(protocol, asyncio.get_running_loop())
            await writer.write(head)
            async for piece in pieces:
                await writer.write(piece)
        except Exception as error:  # noqa: BLE001 - whatever it is, whoever waits for the reply has to know
            # Unless there is one already, or it is known why there will be none.
            if protocol.exception() is None:
                protocol.set_exception(aiohttp.ClientConnectionError("the body could not be sent"), error)


def has_stray_reply(connection: Connection) -> bool:
    """Whether a reply came that nobody asked for while the connection was idle. Whoever asks next would get it."""
    return connection.protocol is not None and len(connection.protocol) > 0


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), PIECE_BYTES):
        yield body[start : start + PIECE_BYTES]
