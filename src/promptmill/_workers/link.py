"""One end of the socket between a coordinating process and a worker: whole messages in, whole messages out."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

from promptmill._workers.messages import FromWorker, ToWorker, encode

M = TypeVar("M")

_LENGTH: Final = struct.Struct("<I")


class Link(asyncio.Protocol):
    """``decode`` makes a message of a frame, ``take`` gets each, ``lost`` is called once when the other end is gone."""

    def __init__(self, decode: Callable[[bytes], M], take: Callable[[M], None], lost: Callable[[], None]) -> None:
        self._decode = decode
        self._take = take
        self._lost = lost
        self._rest = bytearray()
        self._out: list[bytes] = []
        self._transport: asyncio.Transport | None = None

    def send(self, message: ToWorker | FromWorker) -> None:
        """Send a message soon: all that are sent in one turn of the event loop go together.

        Raises:
            ValueError, OverflowError, TypeError, RecursionError: it cannot be encoded; nothing is sent.
        """
        frame = encode(message)
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        self._out += _LENGTH.pack(len(frame)), frame

    def close(self) -> None:
        """Send what is to be sent, then close this end."""
        if self._transport is not None:
            self._flush()
            self._transport.close()

    def _flush(self) -> None:
        out, self._out = self._out, []
        if out and self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(out))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        # In place: a long answer comes in hundreds of pieces, and must not be copied anew with each.
        rest = self._rest
        rest += data
        at, end = 0, len(rest)
        while end - at >= _LENGTH.size:
            length = _LENGTH.unpack_from(rest, at)[0]
            if end - at - _LENGTH.size < length:
                break
            at += _LENGTH.size
            self._take(self._decode(bytes(memoryview(rest)[at : at + length])))
            at += length
        del rest[:at]

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._out.clear()
        self._lost()


async def linked(link: Link, end: socket.socket) -> None:
    """Let ``link`` talk over ``end``."""
    loop = asyncio.get_running_loop()
    end.setblocking(False)
    make: Callable[..., Any] = loop.create_connection if sys.platform == "win32" else loop.create_unix_connection
    await make(lambda: link, sock=end)
