"""The real program, ended at one exact step: ``python at_step.py ORDERS ARGUMENTS...``

ORDERS is JSON. ``at`` names a function, ``module:Class.method``; ``when`` its call is to go wrong, ``before`` or
``after``; ``nth`` which call, from 1, or which item of an async generator; ``given`` the arguments it has to have.
``how`` is what happens:

- ``kill``: the process is gone, as by ``kill -9``
- ``half``: the function gets half of its last argument, and then the process is gone
- ``send``: the request of an HTTP call is sent in full and nobody waits for its reply: the process is gone
- ``lose``: what the function did is done, and its reply is lost
- ``hold``: the file ``held`` is written, and the process stays where it is

``set`` are constants, ``module:NAME``, and what they are instead.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import inspect
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


class Step:
    """Counts the calls of a function and strikes at the one that is meant."""

    def __init__(self, when: str, how: str, nth: int, given: list[Any]) -> None:
        self.when = when
        self.how = how
        self.nth = nth
        self.given = given
        self.seen = 0

    def is_now(self, arguments: tuple[Any, ...]) -> bool:
        if not set(self.given) <= {one for one in arguments if isinstance(one, str)}:
            return False
        self.seen += 1
        return self.seen == self.nth

    def strike(self) -> None:
        if self.how == "lose":
            from promptmill.errors import Transient

            raise Transient("the reply is lost", code="connection_lost")
        if self.how == "hold":
            Path("held").touch()
            time.sleep(60)
        os.kill(os.getpid(), signal.SIGKILL)

    def wrapped(self, function: Any) -> Any:
        if inspect.isasyncgenfunction(function):
            return self._generator(function)
        if inspect.iscoroutinefunction(function):
            return self._coroutine(function)
        return self._plain(function)

    def _coroutine(self, function: Any) -> Any:
        @functools.wraps(function)
        async def call(*arguments: Any, **named: Any) -> Any:
            if not self.is_now(arguments):
                return await function(*arguments, **named)
            if self.how == "send":
                await asyncio.to_thread(send, arguments[0], arguments[2], named["body"])
            if self.how == "half":
                arguments = (*arguments[:-1], arguments[-1][: len(arguments[-1]) // 2])
            if self.when == "before":
                self.strike()
            reply = await function(*arguments, **named)
            self.strike()
            return reply

        return call

    def _generator(self, function: Any) -> Any:
        @functools.wraps(function)
        async def call(*arguments: Any, **named: Any) -> Any:
            async for item in function(*arguments, **named):
                if self.is_now(arguments):
                    self.strike()
                yield item

        return call

    def _plain(self, function: Any) -> Any:
        @functools.wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            now = self.is_now(arguments)
            if now and self.when == "before":
                self.strike()
            reply = function(*arguments, **named)
            if now:
                self.strike()
            return reply

        return call


def send(endpoint: Any, path: str, body: Any) -> None:
    """Send a POST as the endpoint would, and do not read what comes back."""
    url, data = urlsplit(endpoint.url + path), json.dumps(body).encode()
    connection = socket.create_connection((url.hostname, url.port or 80))
    head = f"POST {url.path} HTTP/1.1\r\nhost: {url.netloc}\r\ncontent-type: application/json\r\n"
    connection.sendall(f"{head}content-length: {len(data)}\r\n\r\n".encode() + data)


def place(name: str) -> tuple[Any, str]:
    """The module or class that holds what is called ``name``, and what it is called there."""
    module, _, path = name.partition(":")
    *classes, last = path.split(".")
    return functools.reduce(getattr, classes, importlib.import_module(module)), last


def arrange(orders: dict[str, Any]) -> None:
    for name, value in orders.get("set", {}).items():
        holder, last = place(name)
        assert hasattr(holder, last), name
        setattr(holder, last, value)
    if "at" in orders:
        holder, last = place(orders["at"])
        step = Step(
            orders.get("when", "before"), orders.get("how", "kill"), orders.get("nth", 1), orders.get("given", [])
        )
        setattr(holder, last, step.wrapped(getattr(holder, last)))


if __name__ == "__main__":
    arrange(json.loads(sys.argv.pop(1)))
    from promptmill.cli.main import main

    main()
