"""One endpoint of one server: its URL and headers, made once, and every failure turned into its class."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from promptmill import jsontext
from promptmill.clock import Clock
from promptmill.errors import AuthFailed, Permanent, ProviderError
from promptmill.http import HttpClient, HttpResponse, HttpSettings, limits_of, open_client
from promptmill.interfaces import Opened
from promptmill.jsontext import JSON
from promptmill.models import LimitReading, Response, Tier
from promptmill.secrets import MASK, Secret
from promptmill_openai.address import has_listed_prices, is_own_server
from promptmill_openai.failures import failure_of_reply

LIMITS_READ_EVERY_S: Final = 0.01
"""Seconds in which the answers of a server say the same of its limits. Refusals are always read."""

_SHORTEST_SECRET: Final = 8
"""Characters. Local servers are given keys like ``EMPTY``: masking those would only spoil messages."""

_LISTED_TIERS: Final = frozenset({None, "auto", "default", "flex"})
"""Others, such as ``priority``, are dearer than realtime."""


class Endpoint(Opened):
    """Sends JSON bodies to ``url`` and reads the replies. ``key`` is None where no Authorization header is sent;
    ``secrets`` are headers that are secrets too."""

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str],
        key: Secret | None,
        secrets: Mapping[str, Secret] | None = None,
        settings: HttpSettings,
        connections: int | None,
        clock: Clock,
    ) -> None:
        self.url = url
        self._headers = dict(headers)
        self.key = key
        self._secrets = dict(secrets or {})
        self._settings = settings
        self._connections = connections
        self._clock = clock
        self._client: HttpClient | None = None
        self._limits_read_at = -math.inf
        self.is_own = is_own_server(url)
        """Whether it is a server of the user's own, which lets calls wait instead of refusing them."""
        self.counts_the_higher = has_listed_prices(url)
        """Whether a request is charged the higher of ``max_tokens`` and its prompt, not both. Source: the official rate
        limit guide; other vendors are charged the sum, which is never too little."""

    def price_vendor(self, service_tier: str | None = None) -> str | None:
        """The price table's name for OpenAI where its prices of realtime or flex hold; None where nobody knows."""
        return "openai" if has_listed_prices(self.url) and service_tier in _LISTED_TIERS else None

    async def aopen(self) -> None:
        if self.key is not None:
            self._headers["authorization"] = f"Bearer {self.key.reveal()}"
        self._headers |= {name: secret.reveal() for name, secret in self._secrets.items()}
        client = open_client(self._settings, connections=self._connections)
        await client.aopen()
        self._client = client

    async def aclose(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def ask(
        self, body: JSON, *, timeout: float, read: Callable[[HttpResponse], Response], tier: Tier = "realtime"
    ) -> Response:
        """POST ``body``, which asks for ``tier``, and return what ``read`` makes of a reply with status 2xx.

        Raises:
            ProviderError: the call failed, or ``read`` raised one. No message holds the key, even if the server sent
                it back.
        """
        reply = await self._open.post(self.url, headers=self._headers, body=_encoded(body), timeout=timeout)
        if 200 <= reply.status <= 299:
            try:
                return self._with_limits(read(reply), reply)
            except ProviderError:
                masked = self._masked(reply)
                if masked is reply:
                    raise
            return read(masked)
        raise self._failure(self._masked(reply), tier)

    def _with_limits(self, response: Response, reply: HttpResponse) -> Response:
        now = self._clock.now()
        limits: tuple[LimitReading, ...] = ()
        if now - self._limits_read_at >= LIMITS_READ_EVERY_S:
            limits = limits_of(reply.headers, wall=self._clock.wall())
            self._limits_read_at = now if limits else -math.inf
        if not limits and not self.is_own:
            return response
        return msgspec.structs.replace(response, limits=limits, first_byte_s=reply.first_byte_s)

    async def call(self, method: str, path: str, *, body: JSON = None, timeout: float) -> JSON:
        """Ask for ``path`` below ``url`` and return the JSON of a reply with status 2xx. Raises ProviderError."""
        sent = None if body is None else _encoded(body)
        url = self.url + path
        reply = await self._open.request(method, url, headers=self._headers, body=sent, timeout=timeout)
        return self._checked(reply).json()

    async def upload(self, path: str, file: Path, *, fields: Mapping[str, str], filename: str, timeout: float) -> JSON:
        """POST a file to ``path`` below ``url`` and return the reply's JSON. Raises ProviderError, StorageError."""
        reply = await self._open.upload(
            self.url + path, file, headers=self._headers, fields=fields, filename=filename, timeout=timeout
        )
        return self._checked(reply).json()

    async def download(self, path: str, target: Path, *, timeout: float) -> None:
        """GET ``path`` below ``url`` into a file. Raises ProviderError, StorageError; then there is no file."""
        reply = await self._open.download(self.url + path, target, headers=self._headers, timeout=timeout)
        self._checked(reply)

    @property
    def _open(self) -> HttpClient:
        if self._client is None:
            raise RuntimeError(f"the endpoint {self.url!r} is not open: use the provider inside 'async with'")
        return self._client

    def _checked(self, reply: HttpResponse) -> HttpResponse:
        """The reply, without our key in it. Raises the ProviderError it stands for when its status is not 2xx."""
        masked = self._masked(reply)
        if 200 <= masked.status <= 299:
            return masked
        raise self._failure(masked)

    def _failure(self, reply: HttpResponse, tier: Tier = "realtime") -> ProviderError:
        failure = failure_of_reply(reply, wall=self._clock.wall(), tier=tier)
        failure.limits = limits_of(reply.headers, wall=self._clock.wall())
        if isinstance(failure, AuthFailed) and self.key is None:
            return AuthFailed(
                f"{failure.message} (no key was sent to {self.url!r}: name one with api_key: env:NAME)",
                code=failure.code,
                http_status=failure.http_status,
                request_id=failure.request_id,
            )
        return failure

    def _masked(self, reply: HttpResponse) -> HttpResponse:
        """The reply without our keys in it; the same object when none is there."""
        for secret in (self.key, *self._secrets.values()):
            key = secret.reveal().encode() if secret is not None else b""
            if len(key) >= _SHORTEST_SECRET and key in reply.body:
                reply = msgspec.structs.replace(reply, body=reply.body.replace(key, MASK.encode()))
        return reply


def _encoded(body: JSON) -> bytes:
    try:
        return jsontext.encode(body)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise Permanent(f"the request cannot be written as JSON: {error}", code="bad_request") from error
