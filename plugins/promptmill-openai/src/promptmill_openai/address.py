"""Base URLs: one spelling for each server, and which hosts belong to OpenAI."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final
from urllib.parse import SplitResult, urlsplit

DEFAULT_BASE_URL: Final = "https://api.openai.com/v1"
"""Source: the official SDK 3.54."""

_OFFICIAL_HOST: Final = "api.openai.com"
_LOCAL_DOMAINS: Final = (".local", ".internal", ".lan", ".localhost")
_ENDPOINTS: Final = ("/chat/completions", "/responses", "/embeddings")


def normalised(base_url: str) -> str:
    """Return ``base_url`` without a trailing slash; a bare host gets ``/v1``, an explicit path stays as it is.

    Raises:
        ValueError: it is no base URL, or it holds what does not belong into one (a user name, a query, an endpoint).
    """
    if any(char <= " " or char == "\x7f" for char in base_url):
        raise ValueError("base_url must not hold blanks or control characters")
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("base_url is written like https://host/v1 or http://127.0.0.1:8000/v1")
    if parts.port == 0:
        raise ValueError("base_url names port 0: give the port the server listens on")
    if "@" in parts.netloc:
        raise ValueError("base_url must not hold a user name or a password: use api_key")
    if parts.query or parts.fragment:
        raise ValueError("base_url must not hold a query or a fragment: use a base URL without an api-version")
    if parts.scheme == "http" and _is_official_host(parts):
        raise ValueError(f"base_url would send the key to {parts.hostname!r} unencrypted: write https")
    path = parts.path.rstrip("/")
    for endpoint in _ENDPOINTS:
        if path.endswith(endpoint):
            raise ValueError(f"base_url ends before {endpoint!r}: leave that part out")
    return f"{parts.scheme}://{parts.netloc}{path or '/v1'}"


def is_official(base_url: str) -> bool:
    """Whether a normalised base URL is OpenAI's own: ``api.openai.com`` or a region of it (``eu.api.openai.com``)."""
    parts = urlsplit(base_url)
    return parts.scheme == "https" and _is_official_host(parts)


def has_listed_prices(url: str) -> bool:
    """Whether calls of ``url`` cost what OpenAI's price list says. Its regional hosts charge more for some models."""
    return urlsplit(url).hostname == _OFFICIAL_HOST


def is_own_server(url: str) -> bool:
    """Whether ``url`` is that of a server on this machine or in this network, such as vLLM, llama.cpp or Ollama: it has
    no rate limits, and calls wait in its queue."""
    host = urlsplit(url).hostname or ""
    try:
        address = ip_address(host)
    except ValueError:
        return "." not in host or host.endswith(_LOCAL_DOMAINS)
    return address.is_private or address.is_loopback


def is_loopback(url: str) -> bool:
    """Whether ``url`` is that of a server on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _is_official_host(parts: SplitResult) -> bool:
    host = parts.hostname or ""
    return host == _OFFICIAL_HOST or host.endswith("." + _OFFICIAL_HOST)
