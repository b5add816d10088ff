"""A key goes where its user would send it, by no way that a stranger's job chose, and it is said where."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

CANARY = "sk-canary-of-the-user-77aa"


class Ear:
    """A port that takes what it is sent."""

    def __init__(self) -> None:
        self.heard = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self.heard += connection.recv(65536)

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def ear() -> Iterator[Ear]:
    ear = Ear()
    yield ear
    ear.close()


WAYS: list[dict[str, Any]] = [
    {"proxy": "http://127.0.0.1:{port}", "verify_tls": False},
    {"proxy": "http://127.0.0.1:{port}"},
    {"verify_tls": False},
    {"ca_file": "ca.pem"},
]


@pytest.mark.parametrize("command", ["check", "run"])
@pytest.mark.parametrize(
    ("way", "use"),
    [(way, "openai-chat") for way in WAYS]
    + [(WAYS[0], use) for use in ("openai-responses", "openai-embeddings", "openai-batch")],
)
def test_the_default_key_goes_by_no_way_of_the_job(
    desk: Any, ear: Ear, way: dict[str, Any], use: str, command: str
) -> None:
    way = {name: value.format(port=ear.port) if isinstance(value, str) else value for name, value in way.items()}
    desk.prompts(2)
    desk.write(providers={"fast": {"use": use, "model": "m", "http": way}})
    done = desk.run(command, "job.yaml", env={"OPENAI_API_KEY": CANARY})
    assert (done.code, "error[E0116]" in done.err, "nothing was sent" in done.err) == (2, True, True), done.err
    assert "api_key: env:OPENAI_API_KEY" in done.err
    assert ear.heard == b""


def test_a_key_of_a_pool_goes_by_no_way_of_the_job(desk: Any, ear: Ear) -> None:
    desk.prompts(2)
    pool = [{"api_key": "env:DESK_KEY"}, {"http": {"proxy": f"http://127.0.0.1:{ear.port}"}}]
    desk.write(providers={"fast": {"use": "openai-chat", "model": "m", "pool": pool}})
    done = desk.run("run", "job.yaml", env={"OPENAI_API_KEY": CANARY})
    assert (done.code, "error[E0116]" in done.err) == (2, True), done.err
    assert ear.heard == b""


def test_a_named_key_goes_by_that_way_and_it_is_said(desk: Any, ear: Ear) -> None:
    desk.prompts(1)
    way = {"proxy": f"http://user:password@127.0.0.1:{ear.port}", "verify_tls": False}
    desk.write(provider={"base_url": None, "api_key": "env:OPENAI_API_KEY", "http": way, "timeout": "1s"}, retry=None)
    done = desk.run("check", "job.yaml", env={"OPENAI_API_KEY": CANARY})
    assert done.code == 0, done.err
    line = f"env:OPENAI_API_KEY goes to https://api.openai.com through the proxy 127.0.0.1:{ear.port} (fast)"
    assert line in done.err
    assert "warning: the key of fast, env:OPENAI_API_KEY: `verify_tls: false`" in done.err
    assert "password" not in done.err


@pytest.mark.parametrize(
    ("base_url", "warned"),
    [
        ("http://models.example.com/v1", True),
        ("http://10.0.0.7:8000/v1", True),
        ("http://127.0.0.1.example.com/v1", True),
        ("https://models.example.com/v1", False),
        ("http://127.0.0.1:8000/v1", False),
        ("http://localhost:8000/v1", False),
        ("http://[::1]:8000/v1", False),
    ],
)
def test_a_key_over_http(desk: Any, base_url: str, warned: bool) -> None:
    desk.prompts(1)
    desk.write(provider={"base_url": base_url})
    done = desk.run("check", "job.yaml")
    assert done.code == 0, done.err
    assert f"env:DESK_KEY goes to {base_url.removesuffix('/v1')} (fast)" in done.err
    assert ("unencrypted" in done.err) is warned


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, True), (0o604, True)])
def test_a_key_file_that_others_can_read(desk: Any, mode: int, warned: bool) -> None:
    desk.prompts(1)
    (desk.root / "key").write_text(desk.key)
    (desk.root / "key").chmod(mode)
    desk.write(provider={"api_key": "file:key"})
    done = desk.run("run", "job.yaml")
    assert done.code == 0, done.err
    assert ("other users can read file:key" in done.err) is warned
    assert "file:key goes to http://127.0.0.1" in done.err


def test_a_local_server_without_a_key_goes_on_working(desk: Any) -> None:
    desk.prompts(3)
    desk.write(provider={"api_key": None, "http": {"verify_tls": False}})
    done = desk.run("run", "job.yaml", env={"OPENAI_API_KEY": CANARY})
    assert done.code == 0, done.err
    assert len(desk.records()) == 3
    assert "goes to" not in done.err
