"""``openai-batch``: the Batch API of OpenAI, or of any server that speaks it: half the price, within 24 hours.

Source of limits and wire facts: the API reference and the batch guide, as the official SDK 3.54 has them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field

from promptmill import jsontext
from promptmill.batch import BatchLimits, BatchLine, BatchProvider, BatchStatus, Shard
from promptmill.clock import Clock
from promptmill.errors import BadOutput, Permanent, ProviderError
from promptmill.hookspecs import hookimpl
from promptmill.jsontext import JSON
from promptmill.models import Request, TokenEstimate
from promptmill.options import BatchProviderOptions, BuildContext, Duration, Register
from promptmill_openai.batch_forms import FORMS, FormName
from promptmill_openai.batch_results import Reader, lines_of
from promptmill_openai.batch_status import file_ids, status_of, tag_of
from promptmill_openai.endpoint import Endpoint
from promptmill_openai.settings import OpenAIOptions

TAG: Final = "promptmill_tag"
"""The key of a batch's metadata that holds the tag of its shard."""

WINDOW: Final = "24h"
WINDOW_S: Final = 86_400.0

REQUESTS: Final = 50_000
FILE_BYTES: Final = 180_000_000
"""Of 200 MB; older text says 100 MB, and a file that is refused costs an upload."""

CALL_S: Final = 60.0
FILE_S: Final = 3600.0

SHORTEST_LIFETIME: Final = 3600
LONGEST_LIFETIME: Final = 2_592_000

_BATCHES_A_PAGE: Final = 100
_FILES_A_PAGE: Final = 10_000
_MOST_PAGES: Final = 10_000
"""A server that says there is more for ever is not believed."""

_UPLOADED: Final = frozenset({"uploaded", "processed", None})


class OpenAIBatch(BatchProvider):
    """Batches over HTTP: a file of lines, a batch made of it, and one or two files of results."""

    def __init__(self, endpoint: Endpoint, options: OpenAIBatchOptions, clock: Clock) -> None:
        self.model = options.model
        self.price_vendor = endpoint.price_vendor()
        self.limits = BatchLimits(
            requests=min(REQUESTS, options.batch_requests or REQUESTS),
            bytes=min(FILE_BYTES, options.batch_bytes or FILE_BYTES),
            window_s=WINDOW_S,
        )
        self.operations = FORMS[options.endpoint].operations
        self._form = FORMS[options.endpoint]
        self._endpoint = endpoint
        self._options = options
        self._clock = clock

    async def aopen(self) -> None:
        await self._endpoint.aopen()

    async def aclose(self) -> None:
        await self._endpoint.aclose()

    def estimate(self, request: Request) -> TokenEstimate:
        return self._form.estimate(request, super().estimate(request))

    def encode(self, request: Request, wire_id: str) -> bytes:
        body = self._form.body(request, request.model or self.model, {}, self._options.extra_body)
        # A batch has its own price; a tier inside it would be refused, or would be another price.
        body.pop("service_tier", None)
        line = {"custom_id": wire_id, "method": "POST", "url": self._form.url, "body": body}
        try:
            return jsontext.encode(line)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise Permanent(f"the request cannot be written as JSON: {error}", code="bad_request") from error

    async def find(self, tag: str) -> BatchStatus | None:
        found: BatchStatus | None = None
        async for value in self._all(f"/batches?limit={_BATCHES_A_PAGE}"):
            if tag_of(value, TAG) == tag:
                status = self._status(value)
                # The list has the newest first.
                found = found if status.state == "failed" else status
        return found

    async def create(self, shard: Shard) -> BatchStatus:
        order: dict[str, JSON] = {
            "input_file_id": await self._uploaded(shard),
            "endpoint": self._form.url,
            "completion_window": WINDOW,
            "metadata": {TAG: shard.tag},
        }
        if self._options.output_expires_after is not None:
            order["output_expires_after"] = _lifetime(self._options.output_expires_after)
        return self._status(await self._endpoint.call("POST", "/batches", body=order, timeout=CALL_S))

    async def poll(self, handle: str) -> BatchStatus:
        return self._status(await self._object(handle))

    async def download(self, handle: str, directory: Path) -> Sequence[Path]:
        value = await self._object(handle)
        output, errors = file_ids(value)
        paths = []
        for file_id, kind in ((output, "output"), (errors, "errors")):
            path = directory / f"{handle}-{kind}.jsonl"
            if file_id is not None and (path.exists() or await self._fetched(file_id, path, kind)):
                paths.append(path)
        return paths

    def read(self, path: Path) -> AsyncIterator[Sequence[BatchLine]]:
        reader: Reader = partial(self._form.read, model=self.model)
        return lines_of(path, reader)

    async def cancel(self, handle: str) -> None:
        try:
            await self._endpoint.call("POST", f"/batches/{handle}/cancel", timeout=CALL_S)
        except ProviderError as failure:
            # It says 400 or 409 for a batch that is over, or that it is cancelling already.
            if failure.http_status not in (400, 409) or (await self.poll(handle)).state in ("pending", "running"):
                raise

    async def forget(self, handle: str) -> None:
        if not self._options.delete_files:
            return
        value = await self._object(handle)
        wanted = [value.get("input_file_id"), *file_ids(value)]
        for file_id in wanted:
            if isinstance(file_id, str) and file_id:
                await self._delete(file_id)

    async def _delete(self, file_id: str) -> None:
        try:
            await self._endpoint.call("DELETE", f"/files/{file_id}", timeout=CALL_S)
        except Permanent as failure:
            if failure.http_status != 404:
                raise

    async def _object(self, handle: str) -> JSON:
        try:
            value = await self._endpoint.call("GET", f"/batches/{handle}", timeout=CALL_S)
        except Permanent as failure:
            if failure.http_status == 404:
                raise Permanent(failure.message, code="batch_not_found", http_status=404) from failure
            raise
        return value if isinstance(value, dict) else {}

    async def _fetched(self, file_id: str, path: Path, kind: str) -> bool:
        """Whether the file is here now. An error file that does not exist after all is not missed."""
        try:
            await self._endpoint.download(f"/files/{file_id}/content", path, timeout=FILE_S)
        except Permanent as failure:
            if failure.http_status != 404:
                raise
            if kind == "errors":
                return False
            raise Permanent(
                f"the results of the batch are not there any more: {failure.message}",
                code="results_gone",
                http_status=404,
            ) from failure
        return True

    async def _uploaded(self, shard: Shard) -> str:
        """The id of the shard's file at the server: that of an earlier try if there is one, whole."""
        name = f"{shard.tag}.jsonl"
        async for value in self._all(f"/files?purpose=batch&limit={_FILES_A_PAGE}"):
            if not isinstance(value, dict) or value.get("filename") != name or value.get("bytes") != shard.bytes:
                continue
            file_id = value.get("id")
            if isinstance(file_id, str) and value.get("status") in _UPLOADED:
                return file_id
        fields = {"purpose": "batch"}
        lifetime = self._options.expires_after
        if lifetime is not None:
            fields |= {f"expires_after[{key}]": str(value) for key, value in _lifetime(lifetime).items()}
        value = await self._endpoint.upload("/files", shard.path, fields=fields, filename=name, timeout=FILE_S)
        file_id = value.get("id") if isinstance(value, dict) else None
        if not isinstance(file_id, str) or not file_id:
            raise BadOutput("the reply to the upload holds no file id", code="bad_reply")
        return file_id

    async def _all(self, path: str) -> AsyncIterator[JSON]:
        """Every entry of a list, page by page, newest first."""
        after = ""
        for _ in range(_MOST_PAGES):
            page = await self._endpoint.call("GET", f"{path}{after}", timeout=CALL_S)
            entries = page.get("data") if isinstance(page, dict) else None
            if not isinstance(entries, list):
                raise BadOutput(f"the reply to {path!r} is no list", code="bad_reply")
            for entry in entries:
                yield entry
            last = entries[-1].get("id") if entries and isinstance(entries[-1], dict) else None
            if page.get("has_more") is not True or not isinstance(last, str):
                return
            after = f"&after={last}"
        raise BadOutput(f"the list of {path!r} has no end", code="bad_reply")

    def _status(self, value: JSON) -> BatchStatus:
        return status_of(value, wall=self._clock.wall())


def _lifetime(seconds: float) -> dict[str, JSON]:
    return {"anchor": "created_at", "seconds": round(seconds)}


Lifetime = Annotated[Duration, Field(ge=SHORTEST_LIFETIME, le=LONGEST_LIFETIME)]


class OpenAIBatchOptions(BatchProviderOptions, OpenAIOptions):
    """Options of ``openai-batch``."""

    how_only = (
        BatchProviderOptions.how_only
        | OpenAIOptions.how_only
        | {"expires_after", "output_expires_after", "delete_files"}
    )

    # Both bases have it; without this line it would be the first one's, which may be left out.
    model: str = Field(min_length=1, description="The model that answers when a request names none.")
    endpoint: FormName = Field("chat", description="What the lines ask for.")
    expires_after: Lifetime | None = Field(None, description="When the server deletes the files sent; 1 h to 30 days.")
    output_expires_after: Lifetime | None = Field(None, description="When it deletes the results; 1 h to 30 days.")
    delete_files: bool = Field(False, description="Delete all files there once the results are safe here.")

    def build(self, context: BuildContext) -> OpenAIBatch:
        return OpenAIBatch(self.endpoint_at("", context), self, context.clock)


@hookimpl
def register_provider(register: Register) -> None:
    register("openai-batch", OpenAIBatchOptions)
