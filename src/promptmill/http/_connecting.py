"""How to reach a server, whatever the backend: TLS, proxy and socket options."""

from __future__ import annotations

import socket
import ssl
import sys
from collections.abc import Container
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from promptmill.errors import UsageError
from promptmill.http._failures import bad_proxy
from promptmill.http.client import HttpSettings

USER_AGENT: Final = "promptmill"

KEEP_IDLE_CONNECTION: Final = 4.0
"""Seconds an unused connection is kept. Below the 5 s after which common servers (Node.js, uvicorn) close theirs, so
that a request is hardly ever sent into a connection that is just being closed."""

_PROBE_AFTER: Final = 30
_PROBE_EVERY: Final = 10
_PROBES: Final = 3
_DEAD_AFTER_MS: Final = 60_000


def socket_options() -> list[tuple[int, int, int]]:
    """Options that find a vanished peer within a minute, as ``(level, name, value)``.

    What the platform lacks is left out. A server that merely takes long to answer is not affected: its kernel answers
    the probes.
    """
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    wanted = {
        "TCP_KEEPALIVE" if sys.platform == "darwin" else "TCP_KEEPIDLE": _PROBE_AFTER,
        "TCP_KEEPINTVL": _PROBE_EVERY,
        "TCP_KEEPCNT": _PROBES,
        "TCP_USER_TIMEOUT": _DEAD_AFTER_MS,
    }
    for name, value in wanted.items():
        number = getattr(socket, name, None)
        if number is not None:
            options.append((socket.IPPROTO_TCP, number, value))
    return options


def tls_context(settings: HttpSettings) -> ssl.SSLContext:
    """The TLS context after ``settings``. Reads certificates from the disk: call it in a thread.

    Raises:
        UsageError: the CA file cannot be read or holds no certificate.
    """
    file = settings.ca_file.expanduser() if settings.ca_file is not None else None
    try:
        context = ssl.create_default_context(cafile=file)
    except OSError as error:
        raise UsageError(
            f"the CA file {str(file)!r} cannot be used: {error.strerror or type(error).__name__}",
            code="E0114",
            hint="ca_file is a PEM file with at least one certificate",
        ) from error
    if not settings.verify_tls:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context


def proxy_for(url: str, settings: HttpSettings, schemes: Container[str]) -> str | None:
    """The URL of the proxy to use for ``url``: that of the settings, else that of the environment unless NO_PROXY
    exempts the host (on macOS and Windows also the system's settings).

    Raises:
        NeverSent: the proxy's URL is none, or of a scheme that is not in ``schemes`` (``proxy``).
        ValueError: ``url`` is not a URL.
    """
    proxy = settings.proxy or _environment_proxy(url)
    if proxy is None:
        return None
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    try:
        parts = urlsplit(proxy)
        # Reading the port is what checks it.
        usable = parts.scheme in schemes and parts.hostname and parts.port != 0
    except ValueError as error:
        raise bad_proxy(proxy, str(error)) from error
    if not usable:
        raise bad_proxy(proxy, "it is not a URL of a kind this HTTP backend can use")
    return proxy


def _environment_proxy(url: str) -> str | None:
    parts = urlsplit(url)
    known = getproxies()
    proxy = known.get(parts.scheme) or known.get("all")
    if not proxy or not parts.hostname:
        return None
    if proxy_bypass(parts.hostname) or (parts.port and proxy_bypass(f"{parts.hostname}:{parts.port}")):
        return None
    return proxy
