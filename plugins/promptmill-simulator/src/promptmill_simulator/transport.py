"""uvicorn's protocol and server, with the two things a simulator needs beyond them: the transport, and silence."""

from __future__ import annotations

import logging
import socket
import threading
from typing import Any

from uvicorn import Config, Server
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from promptmill_simulator.call import TRANSPORT

logging.getLogger(__name__).addHandler(logging.NullHandler())


class ExposedProtocol(HttpToolsProtocol):
    """Hands the connection's transport to the application, which may cut it off."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        # A connection that is cut on purpose is no news; uvicorn would report it as an error of the application.
        self.logger = logging.getLogger(__name__)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"][TRANSPORT] = self.transport


def server_config(app: Any, keep_alive: int) -> Config:
    """How uvicorn is to run: quiet, plain HTTP/1.1, no lifespan, no proxies."""
    return Config(
        app,
        http=ExposedProtocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=keep_alive,
        backlog=4096,
    )


class StoppableServer(Server):
    """Says when it is ready, and stops at once: whoever still waits for a reply is cut off."""

    def __init__(self, config: Config, ready: threading.Event) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        for task in list(self.server_state.tasks):
            task.cancel()
        await super().shutdown(sockets)
