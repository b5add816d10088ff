"""The narrow client every HTTP provider uses: one request, one reply, one clock, our own classes of failure."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import anyio
import msgspec
from pydantic import BaseModel, ConfigDict, Field

from promptmill import jsontext
from promptmill.errors import BadOutput, ProviderError, Transient
from promptmill.http._downloading import BREAKS, MOST_BREAKS, Download
from promptmill.http._uploading import FileForm
from promptmill.interfaces import Opened
from promptmill.jsontext import JSON
from promptmill.options import Duration

MAX_RESPONSE_BYTES: Final = 32 * 1024 * 1024


class HttpResponse(msgspec.Struct, frozen=True):
    """A whole reply. ``headers`` have lower-case names (the last value of several counts), ``body`` is decompressed.

    ``first_byte_s`` is how many seconds the reply's head took, from when the request began to be sent.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    first_byte_s: float | None = None

    def json(self) -> JSON:
        """The body as JSON. Raises BadOutput (code ``bad_json``) quoting its start when it is not JSON."""
        try:
            return jsontext.decode(self.body)
        except jsontext.BadJSON as error:
            raise BadOutput(
                f"the reply is not JSON ({error}): {self.excerpt()}",
                code="bad_json",
                http_status=self.status,
            ) from error

    def excerpt(self, limit: int = 200) -> str:
        """The first characters of the body, quoted, for messages."""
        return repr(self.body[:limit].decode("utf-8", "replace"))


class HttpSettings(BaseModel):
    """How to reach a server: the part of a provider's options that all HTTP providers share.

    A reply whose body has begun (with a byte that is not white space: some servers send blank lines while a request
    is queued) must go on: something within every ``idle_timeout``, and ``least_bytes_per_second`` on average over a
    ``progress_window``. Before that, only the timeout of the call counts: a model may think for minutes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    backend: Literal["aiohttp", "httpx"] = Field("aiohttp", description="The HTTP client underneath.")
    connections: int | None = Field(None, ge=1, description="Most connections at once; default: as many as calls.")
    connect_timeout: Duration = Field(5.0, description="Seconds to reach the server.")
    proxy: str | None = Field(None, description="Proxy URL; default: the environment (HTTPS_PROXY, NO_PROXY).")
    ca_file: Path | None = Field(None, description="PEM file of authorities to trust instead of the system's.")
    verify_tls: bool = Field(True, description="Check the server's certificate. Never turn this off outside a test.")
    max_response_bytes: int = Field(MAX_RESPONSE_BYTES, ge=1, description="Longest decompressed reply accepted.")
    idle_timeout: Duration = Field(60.0, gt=0, description="Longest silence in the middle of a reply.")
    progress_window: Duration = Field(120.0, gt=0, description="Time over which `least_bytes_per_second` is measured.")
    least_bytes_per_second: float = Field(
        1.0, ge=0, allow_inf_nan=False, description="A reply that comes more slowly is given up; 0: none is."
    )


class HttpClient(Opened):
    """Sends requests. Keeps no cookies, follows no redirects, never repeats a request by itself."""

    @abstractmethod
    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | FileForm | None = None,
        timeout: float,
        into: Download | None = None,
    ) -> HttpResponse:
        """Send one request and read the whole reply within ``timeout`` seconds.

        Any status is a reply, not an error. Safe to cancel at any moment: the connection is closed, not reused. A body
        that ``into`` takes is not in the reply. Files: see :meth:`upload` and :meth:`download`.

        Raises:
            NeverSent: no byte of the request can have been processed (``dns``, ``connect_refused``,
                ``connect_timeout``, ``tls``, ``proxy``, ``bad_url``, ``too_many_open_files``).
            Transient: the outcome is unknown or broken (``timeout``, ``stalled``, ``connection_lost``,
                ``truncated_body``, ``bad_http``).
            BadOutput: the reply is over ``max_response_bytes`` (``response_too_large``) or cannot be decompressed
                (``bad_encoding``).
        """

    async def post(self, url: str, *, headers: Mapping[str, str], body: bytes, timeout: float) -> HttpResponse:
        """:meth:`request` with POST."""
        return await self.request("POST", url, headers=headers, body=body, timeout=timeout)

    async def upload(
        self,
        url: str,
        file: Path,
        *,
        headers: Mapping[str, str],
        fields: Mapping[str, str],
        part: str = "file",
        filename: str,
        timeout: float,
    ) -> HttpResponse:
        """POST ``file`` as a form, streamed from the disk: the ``fields``, then the file as ``part``.

        Raises:
            ProviderError: as :meth:`request`.
            StorageError: the file cannot be read (E0616), or changes while it is sent (E0617).
        """
        form = await FileForm.of(file, fields, part, filename)
        sent = {**headers, "content-type": form.content_type, "content-length": str(form.length)}
        try:
            return await self.request("POST", url, headers=sent, body=form, timeout=timeout)
        except ProviderError as failure:
            raise form.failure or failure from failure

    async def download(self, url: str, target: Path, *, headers: Mapping[str, str], timeout: float) -> HttpResponse:
        """GET into the file ``target``, which is there, whole and synced, when the reply has status 200 or 206.

        A download that breaks off is gone on with, where the server lets us (``Range`` with ``If-Range``), else begun
        anew, each time with ``timeout`` seconds, until nothing has come for a few times in a row. With any other status
        there is no file, and the reply has its body.

        Raises:
            ProviderError: as :meth:`request`.
            StorageError: the disk does not take it.
        """
        download = Download(target)
        breaks = 0
        try:
            await download.open()
            while True:
                before = download.received
                try:
                    wanted = {**headers, **download.headers()}
                    reply = await self.request("GET", url, headers=wanted, timeout=timeout, into=download)
                except Transient as failure:
                    breaks = 0 if download.received > before else breaks + 1
                    if failure.code not in BREAKS or breaks >= MOST_BREAKS:
                        raise
                else:
                    if reply.status in (200, 206):
                        await download.finish()
                    return reply
        finally:
            with anyio.CancelScope(shield=True):
                await download.close()
