"""The server of the benchmarks where nginx is not installed: just enough HTTP/1.1 for the clients measured here."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_DELAY = re.compile(rb"POST /(\d+)ms/")


class Answering(asyncio.Protocol):
    """One connection; answers one request after the other."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._pending = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._pending += data
        while (end := self._pending.find(b"\r\n\r\n")) >= 0:
            head = self._pending[:end]
            length = _LENGTH.search(head)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._pending) < whole:
                return
            self._pending = self._pending[whole:]
            delay = _DELAY.match(head)
            if delay and int(delay[1]):
                asyncio.get_running_loop().call_later(int(delay[1]) / 1000, self._send)
            else:
                self._send()

    def _send(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(self._answer)


async def serve(port: int, answer: bytes) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Answering(answer), "127.0.0.1", port, backlog=8192)
    await server.serve_forever()


def main() -> None:
    port, file, headers = sys.argv[1:]
    body = Path(file).read_bytes()
    lines = {"server": "plain", "date": "Sun, 06 Nov 1994 08:49:37 GMT", "content-type": "application/json"}
    lines |= {"content-length": str(len(body)), "connection": "keep-alive"} | json.loads(headers)
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    asyncio.run(serve(int(port), f"HTTP/1.1 200 OK\r\n{head}\r\n".encode() + body))


if __name__ == "__main__":
    main()
