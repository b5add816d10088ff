"""When a server answers, seen by the least client: ``case_paced.py --rate R`` and the usual arguments.

Requests go out evenly at a fixed rate over connections that are open already, written and read by a bare protocol: no
HTTP library, no queue, no parsing but the length of a reply. What such a client sees is the server, the kernel and the
event loop; what a client sees above that is its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import deque
from typing import cast
from urllib.parse import urlsplit

import measuring

TICK_S = 0.001
PATIENCE_S = 30


class Connection(asyncio.Protocol):
    """One request at a time; the moment its reply is whole, its latency is noted."""

    def __init__(self, idle: deque[Connection], latencies: list[float]) -> None:
        self._idle = idle
        self._latencies = latencies
        self._pending = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class
        self._idle.append(self)

    def send(self, request: bytes) -> None:
        self._sent = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._pending += data
        head, found, body = self._pending.partition(b"\r\n\r\n")
        if not found or not _is_whole(head, body):
            return
        assert head.startswith(b"HTTP/1.1 200"), head
        self._latencies.append(time.perf_counter() - self._sent)
        self._pending = b""
        self._idle.append(self)


def _is_whole(head: bytes, body: bytes) -> bool:
    fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:])
    length = fields.get(b"content-length")
    return body.endswith(b"\r\n0\r\n\r\n") if length is None else len(body) >= int(length)


async def main(task: measuring.Task, rate: float) -> None:
    address = urlsplit(task.url)
    requests = [_request(address.path, str(address.netloc), prompt) for prompt in task.prompts()]
    idle: deque[Connection] = deque()
    latencies: list[float] = []
    loop = asyncio.get_running_loop()
    for _ in range(task.concurrency):
        await loop.create_connection(lambda: Connection(idle, latencies), address.hostname, address.port)
    stopwatch = measuring.Stopwatch()
    async with asyncio.timeout(PATIENCE_S + len(requests) / rate):
        started = time.perf_counter()
        sent = 0
        while len(latencies) < len(requests):
            due = min(int(rate * (time.perf_counter() - started)) + 1, len(requests))
            while sent < due and idle:
                idle.popleft().send(requests[sent])
                sent += 1
            await asyncio.sleep(TICK_S)
    measuring.report(stopwatch, latencies, task.requests)


def _request(path: str, host: str, prompt: str) -> bytes:
    body = json.dumps(measuring.body_of(prompt)).encode()
    head = (
        f"POST {path}/chat/completions HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer none\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--rate", type=float, required=True)
    asked, rest = parser.parse_known_args()
    measuring.run(lambda task: main(task, asked.rate), rest)
