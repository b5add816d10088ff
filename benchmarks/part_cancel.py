"""What a server sees of a call that is cancelled: ``part_cancel.py [CLIENT ...]``.

A client is a backend used through ``HttpClient.post`` (``aiohttp``, ``httpx``) or ``pyreqwest`` without the door (where
it is installed). This is why pyreqwest, the quickest of them, is not a backend: its request runs on when the task that
awaits it is cancelled, so an answer that nobody waits for is paid, and a connection stays busy.

Rows: 20 calls cancelled while the server thinks, and how many connections were closed within a second; 50 calls
cancelled in the turn of the event loop after the one they began in, and how many of them the server read whole; whether
a cancel scope gets its own cancellation back; 30 short processes that make one call and close their client, and how
many of them failed.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from importlib.util import find_spec

import anyio

from promptmill.http import HttpSettings, open_client

CLIENTS = ("aiohttp", "httpx", *(("pyreqwest",) if find_spec("pyreqwest") else ()))
THINKING, EARLY, PROCESSES = 20, 50, 30
PATIENCE_S = 1.0
PAUSE_S = 0.005
TIMEOUT_S = 30.0
REPLY = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"

Post = Callable[[str], Awaitable[object]]


class Server:
    """Reads requests and counts them, and the connections their clients close. Answers only on ``/now``."""

    def __init__(self) -> None:
        self.read = 0
        self.closed = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n{}")
                self.read += 1
                if b" /now " in head:
                    writer.write(REPLY)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.closed += 1
        except asyncio.CancelledError:
            pass  # The loop ends. Raising it on would make the streams of asyncio complain.
        finally:
            writer.close()


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[Server, str]]:
    server = Server()
    async with AsyncExitStack() as stack:
        listener = await asyncio.start_server(server.handle, "127.0.0.1", 0)
        stack.callback(listener.close)
        yield server, f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def client_of(name: str) -> AsyncIterator[Post]:
    if name != "pyreqwest":
        async with open_client(HttpSettings.model_validate({"backend": name})) as client:
            yield lambda url: client.post(url, headers={}, body=b"{}", timeout=TIMEOUT_S)
        return
    from pyreqwest.client import ClientBuilder

    async with ClientBuilder().no_proxy().build() as bare:

        async def post(url: str) -> object:
            request = bare.post(url).timeout(timedelta(seconds=TIMEOUT_S)).body_bytes(b"{}").build()
            return await (await request.send()).bytes()

        yield post


async def eventually(condition: Callable[[], bool]) -> bool:
    for _ in range(round(PATIENCE_S / PAUSE_S)):
        if condition():
            break
        await asyncio.sleep(PAUSE_S)
    return condition()


async def while_it_thinks(name: str) -> str:
    async with serving() as (server, url), client_of(name) as post:
        tasks = [asyncio.create_task(post(url)) for _ in range(THINKING)]
        if not await eventually(lambda: server.read == THINKING):
            raise SystemExit(f"{name}: the server read {server.read} of {THINKING} requests")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await eventually(lambda: server.closed == THINKING)
        return f"{server.closed} of {THINKING}"


async def cancelled_early(name: str) -> str:
    async with serving() as (server, url), client_of(name) as post:
        for _ in range(EARLY):
            task = asyncio.create_task(post(url))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await asyncio.sleep(2 * PAUSE_S)
        return f"{server.read} of {EARLY}"


async def in_a_scope(name: str) -> str:
    async with serving() as (_, url), client_of(name) as post:
        try:
            with anyio.move_on_after(0.1) as scope:
                await post(url)
        except asyncio.CancelledError:
            return "no, it escapes"
        return "yes" if scope.cancelled_caught else "no"


async def processes(name: str) -> str:
    async with serving() as (_, url):
        failed = 0
        for _ in range(PROCESSES):
            command = [sys.executable, __file__, "--once", name, f"{url}/now"]
            process = await asyncio.create_subprocess_exec(*command, stderr=subprocess.DEVNULL)
            failed += await process.wait() != 0
        return f"{failed} of {PROCESSES}"


async def once(name: str, url: str) -> None:
    async with client_of(name) as post:
        await post(url)


def main(clients: list[str]) -> None:
    rows: dict[str, Callable[[str], Awaitable[str]]] = {
        "cancelled while the server thinks: closed": while_it_thinks,
        "cancelled at once: read by the server": cancelled_early,
        "a cancel scope works": in_a_scope,
        "processes that ended with an error": processes,
    }
    print(f"{'':<44}" + "".join(f"{client:<18}" for client in clients))
    for title, row in rows.items():
        found = [asyncio.run(row(client)) for client in clients]
        print(f"{title:<44}" + "".join(f"{one:<18}" for one in found), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--once"]:
        asyncio.run(once(*sys.argv[2:4]))
    else:
        main(sys.argv[1:] or list(CLIENTS))
