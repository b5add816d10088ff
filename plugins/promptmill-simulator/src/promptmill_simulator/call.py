"""One HTTP exchange as the simulator's handlers see it: the ASGI scope, the body, and the connection underneath."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl

from promptmill import jsontext
from promptmill_simulator.apierror import ApiError, Headers

Event: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Event]]
Send: TypeAlias = Callable[[Event], Awaitable[None]]

MAX_JSON_BYTES: Final = 32 * 1024 * 1024
TRANSPORT: Final = "promptmill.transport"
"""Where the server's protocol leaves the connection's transport in ``scope["state"]``."""

# struct linger {1, 0}: closing sends a reset instead of a farewell. Windows has two shorts, the others two ints.
_RESET_ON_CLOSE: Final = struct.pack("hh" if hasattr(socket, "SO_EXCLUSIVEADDRUSE") else "ii", 1, 0)


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


class Call:
    """One request and the way back."""

    def __init__(self, scope: Event, receive: Receive, send: Send) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self._query: bytes = scope["query_string"]
        self._headers: Headers = scope["headers"]
        self._receive = receive
        self._send = send
        self._transport: asyncio.Transport | None = scope.get("state", {}).get(TRANSPORT)

    def header(self, name: bytes) -> bytes | None:
        """The value of the header ``name`` (lower case), or None."""
        return next((value for key, value in self._headers if key == name), None)

    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self._query.decode("latin-1"), keep_blank_values=True))

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises ClientGone."""
        more = True
        while more:
            event = await self._receive()
            if event["type"] != "http.request":
                raise ClientGone
            more = event.get("more_body", False)
            if body := event.get("body"):
                yield body

    async def body(self) -> bytes:
        """The whole body. Raises ClientGone, or ApiError when it is too large."""
        event = await self._receive()
        if event["type"] == "http.request" and not event.get("more_body"):
            return bytes(event.get("body", b""))
        if event["type"] != "http.request":
            raise ClientGone
        whole = bytearray(event.get("body", b""))
        async for chunk in self.chunks():
            whole += chunk
            if len(whole) > MAX_JSON_BYTES:
                raise ApiError(413, f"The request body is larger than {MAX_JSON_BYTES} bytes.")
        return bytes(whole)

    async def json_object(self) -> dict[str, Any]:
        """The body as a JSON object. Raises ClientGone, or ApiError when it is none."""
        try:
            value = jsontext.decode(await self.body())
        except jsontext.BadJSON as error:
            raise ApiError(
                400,
                "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP "
                "library correctly. The API expects a JSON payload, but what was sent was not valid JSON.)",
            ) from error
        if not isinstance(value, dict):
            raise ApiError(400, "The JSON body of your request must be an object.")
        return value

    async def start(self, status: int, headers: Headers, length: int) -> None:
        """Send the head of the reply."""
        head = [*headers, (b"content-length", b"%d" % length)]
        await self._send({"type": "http.response.start", "status": status, "headers": head})

    async def write(self, data: bytes, more: bool = False) -> None:
        """Send a piece of the body; without ``more`` it is the last."""
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def gone(self) -> None:
        """Wait until the client closes the connection. The request must have been read."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def close(self) -> None:
        """Close the connection once what was written has left, without telling the client beforehand."""
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        """Close the connection at once so that the client sees a reset."""
        if self._transport is None:
            return
        connection = self._transport.get_extra_info("socket")
        if connection is not None:
            # The transport's own socket object may not set options; a copy of it reaches the same connection.
            with connection.dup() as copy:
                copy.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._transport.abort()
