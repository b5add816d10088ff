"""A provider that cannot be reached at all: the run says why and ends, and no request is failed for it."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trustme


@pytest.fixture
def unknown_authority() -> Iterator[str]:
    """The base URL of a server whose certificate nobody has signed whom the client knows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    context.wrap_socket(connection, server_side=True).close()
                except OSError:
                    continue

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"https://localhost:{listener.getsockname()[1]}/v1"
    listener.close()


@pytest.mark.slow
def test_a_certificate_that_is_not_trusted(desk_for: Callable[[str], Any], unknown_authority: str) -> None:
    desk = desk_for(unknown_authority)
    desk.prompts(50)
    desk.write(retry=None)
    done = desk.run("run", "job.yaml", "--json")
    assert done.code == 3, done.err
    assert "certificate" in done.err
    assert desk.records() == []
    assert done.summary["failed"] == 0
    assert done.summary["elapsed_s"] < 15


@pytest.mark.slow
def test_a_name_that_does_not_exist(desk_for: Callable[[str], Any]) -> None:
    desk = desk_for("http://no-such-host.invalid/v1")
    desk.prompts(50)
    desk.write(retry=None)
    done = desk.run("run", "job.yaml", "--json")
    assert done.code == 3, done.err
    assert "cannot be reached" in done.err
    assert done.summary["failed"] == 0
    assert done.summary["elapsed_s"] < 15
