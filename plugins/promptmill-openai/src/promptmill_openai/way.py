"""The way a key goes to its server: what a job changed about it, and what is to be said of it."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from promptmill.http import HttpSettings
from promptmill_openai.address import is_loopback


def ways_changed(http: HttpSettings) -> list[str]:
    """The settings of a job by which a call goes another way, or by which another server is believed."""
    changed = {"proxy": http.proxy is not None, "ca_file": http.ca_file is not None, "verify_tls": not http.verify_tls}
    return [name for name, is_changed in changed.items() if is_changed]


def described(base_url: str, http: HttpSettings) -> str:
    """Where calls go, in a few words. A proxy is told without the password it may have."""
    parts = urlsplit(base_url)
    through = f" through the proxy {_host_of(http.proxy)}" if http.proxy is not None else ""
    return f"{parts.scheme}://{parts.netloc}{through}"


def doubts_about(base_url: str, http: HttpSettings) -> Iterator[str]:
    """What may give a key away that is sent there."""
    if urlsplit(base_url).scheme == "http" and (not is_loopback(base_url) or http.proxy is not None):
        yield "it goes unencrypted (http), and whoever is on the way can read it"
    if not http.verify_tls:
        yield "`verify_tls: false` gives it to whoever answers in the name of that server"


def _host_of(url: str) -> str:
    return url.rpartition("@")[2].rpartition("//")[2].partition("/")[0]
