"""A server that answers every chat request with the same 769 bytes: at once, after 20 ms, 200 ms, or 5 s.

nginx with its echo module, where both are installed: one worker, told to answer faster than any client here can ask.
Else ``plain_server.py``, which is in Python and may be what limits the quickest clients; the results say which it was.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from machine import pinned, program

ECHO_MODULE = Path("/usr/lib/nginx/modules/ngx_http_echo_module.so")
"""Where Debian and Ubuntu put it: ``apt-get install nginx-light libnginx-mod-http-echo``."""

REPLY_BYTES = 769
DELAYS_MS = (0, 20, 200, 5000)
ENDPOINT = "/v1/chat/completions"

HEADERS = {
    "x-request-id": "req_0123456789abcdef0123456789abcdef",
    "openai-processing-ms": "12",
    "openai-version": "2020-10-01",
    "x-ratelimit-limit-requests": "1000000000",
    "x-ratelimit-remaining-requests": "999999999",
    "x-ratelimit-limit-tokens": "1000000000000",
    "x-ratelimit-remaining-tokens": "999999999000",
    "strict-transport-security": "max-age=31536000",
}
"""Headers real servers send, besides the usual five (server, date, content-type, content-length or transfer-encoding,
connection). The limits are read by clients that keep to them, and must not be what holds those up."""


@dataclass(frozen=True)
class Server:
    """``url(delay)`` is the base URL of the path that answers after ``delay`` milliseconds."""

    name: str
    port: int
    pid: int = 0

    def url(self, delay_ms: int) -> str:
        return f"http://127.0.0.1:{self.port}/{delay_ms}ms/v1"


def reply() -> bytes:
    """A chat completion of exactly 769 bytes, which is what a short answer takes."""
    message: dict[str, object] = {"role": "assistant", "content": "", "refusal": None, "annotations": []}
    body = {
        "id": "chatcmpl-0123456789abcdefghijklmno",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "bench-model",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": 120,
            "completion_tokens": 45,
            "total_tokens": 165,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        },
        "service_tier": "default",
        "system_fingerprint": "fp_0123456789",
    }
    missing = REPLY_BYTES - len(json.dumps(body, separators=(",", ":")))
    message["content"] = ("The answer is forty-two, and here is why it is so. " * 20)[:missing]
    return json.dumps(body, separators=(",", ":")).encode()


@contextmanager
def chat_server(core: int | None) -> Iterator[Server]:
    """Start the server on a free port of the loopback, on ``core`` where that can be asked for, and stop it."""
    with tempfile.TemporaryDirectory(prefix="promptmill-bench-") as name:
        folder = Path(name)
        port = _free_port()
        nginx = program("nginx")
        if nginx and ECHO_MODULE.exists():
            command = [nginx, "-p", str(folder), "-c", str(_nginx_config(folder, port))]
            kind = "nginx"
        else:
            print("nginx with its echo module is not here (apt-get install nginx-light libnginx-mod-http-echo):")
            print("the server is plain_server.py, which may limit the quickest clients")
            (folder / "reply.json").write_bytes(reply())
            script = Path(__file__).with_name("plain_server.py")
            command = [sys.executable, str(script), str(port), str(folder / "reply.json"), json.dumps(HEADERS)]
            kind = "plain_server.py"
        server = subprocess.Popen(pinned(command, core), stdin=subprocess.DEVNULL)
        try:
            _wait_for(port, server)
            yield Server(kind, port, server.pid)
        finally:
            server.terminate()
            server.wait()


def _nginx_config(folder: Path, port: int) -> Path:
    headers = "\n".join(f"    add_header {name} '{value}';" for name, value in HEADERS.items())
    # The body is read before the answer, as a real server does; echo's own handler would leave it in the socket.
    paths = "\n".join(
        f"""    location = /{delay}ms{ENDPOINT} {{
      client_body_buffer_size 64k;
      default_type application/json;
      echo_read_request_body;
      {f"echo_sleep {delay / 1000};" if delay else ""}
      echo_duplicate 1 '{reply().decode()}';
    }}"""
        for delay in DELAYS_MS
    )
    user = "user root;" if hasattr(os, "geteuid") and os.geteuid() == 0 else ""
    config = folder / "nginx.conf"
    config.write_text(
        f"""
load_module {ECHO_MODULE};
{user}
daemon off;
worker_processes 1;
worker_rlimit_nofile 16384;
pid {folder}/nginx.pid;
error_log {folder}/error.log crit;
events {{ worker_connections 16384; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  tcp_nodelay on;
  server {{
    listen 127.0.0.1:{port} backlog=16384;
{headers}
{paths}
  }}
}}
""",
        encoding="utf-8",
    )
    return config


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        if server.poll() is not None:
            raise SystemExit(f"the server ended with {server.returncode} before it answered")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit("the server did not come up within 10 s")
