"""/v1/files: upload, list, retrieve, content, delete. Shapes: ``OpenAIFile`` of the OpenAPI description."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from promptmill_simulator.apierror import ApiError, Reply, json_reply
from promptmill_simulator.byte_range import Unsatisfiable, asked_span
from promptmill_simulator.call import Call
from promptmill_simulator.file_store import FileStore, StoredFile
from promptmill_simulator.paging import page
from promptmill_simulator.routes import Route
from promptmill_simulator.upload import Upload

PURPOSES: Final = frozenset({"assistants", "batch", "fine-tune", "vision", "user_data", "evals"})
BATCH_LIFETIME: Final = 30 * 86_400.0
"""Seconds an input file is kept when the upload does not say; source: the API reference."""


class Files:
    """The endpoints of files."""

    def __init__(self, store: FileStore, *, ranges: bool) -> None:
        self._store = store
        self._ranges = ranges

    def routes(self) -> list[Route]:
        return [
            Route("POST", "/v1/files", "files.create", self.create),
            Route("GET", "/v1/files", "files.list", self.list),
            Route("GET", "/v1/files/*", "files.retrieve", self.retrieve),
            Route("DELETE", "/v1/files/*", "files.delete", self.delete),
            Route("GET", "/v1/files/*/content", "files.content", self.content),
        ]

    async def create(self, call: Call, target: str) -> Reply:
        del target
        upload = Upload(self._store.new_path())
        try:
            await upload.receive(call)
            stored = self._enter(upload)
        except BaseException:
            upload.path.unlink(missing_ok=True)
            raise
        return json_reply(stored.as_dict())

    async def list(self, call: Call, target: str) -> Reply:
        del target
        query = call.query()
        purpose = query.get("purpose")
        files = [file for file in self._store.all() if purpose is None or file.purpose == purpose]
        return page([(file.id, file.as_dict()) for file in files], query, limit=10_000, most=10_000, empty_ids=True)

    async def retrieve(self, call: Call, target: str) -> Reply:
        del call
        return json_reply(self._store.get(target).as_dict())

    async def delete(self, call: Call, target: str) -> Reply:
        del call
        self._store.get(target)
        self._store.delete(target)
        return json_reply({"id": target, "object": "file", "deleted": True})

    async def content(self, call: Call, target: str) -> Reply:
        stored = self._store.get(target)
        headers = [(b"content-type", b"application/octet-stream")]
        if not self._ranges:
            return Reply(200, b"", headers, stored.path)
        # What a file holds never changes, so its id is as good as a digest of it.
        etag = b'"%s"' % stored.id.encode()
        headers += [(b"accept-ranges", b"bytes"), (b"etag", etag)]
        try:
            span = asked_span(call.header(b"range"), call.header(b"if-range"), etag, stored.bytes)
        except Unsatisfiable as error:
            size = (b"content-range", b"bytes */%d" % stored.bytes)
            raise ApiError(416, "The file has no bytes in this range.", param="range", headers=[size]) from error
        if span is None:
            return Reply(200, b"", headers, stored.path)
        extent = (b"content-range", b"bytes %d-%d/%d" % (span[0], sum(span) - 1, stored.bytes))
        return Reply(206, b"", [*headers, extent], stored.path, span)

    def _enter(self, upload: Upload) -> StoredFile:
        if upload.filename is None:
            raise ApiError(400, "'file' is a required property", param="file")
        purpose = upload.fields.get("purpose")
        if purpose is None:
            raise ApiError(400, "'purpose' is a required property", param="purpose")
        if purpose not in PURPOSES:
            raise ApiError(400, f"'{purpose}' is not one of {sorted(PURPOSES)} - 'purpose'", param="purpose")
        if purpose == "batch" and not upload.filename.endswith(".jsonl"):
            raise ApiError(400, "Invalid file format for Batch API. Must be .jsonl", param="file")
        lifetime = lifetime_of(upload.fields) or (BATCH_LIFETIME if purpose == "batch" else None)
        return self._store.add(upload.path, filename=upload.filename, purpose=purpose, lifetime=lifetime)


def lifetime_of(fields: Mapping[str, str]) -> float | None:
    """Seconds a file is to be kept: ``expires_after[seconds]`` or ``expires_after.seconds``. Raises ApiError."""
    given = fields.get("expires_after[seconds]", fields.get("expires_after.seconds"))
    if given is None:
        return None
    return checked_lifetime(given if not given.isdecimal() else int(given), "expires_after.seconds")


def checked_lifetime(seconds: object, name: str) -> float:
    """A lifetime the API accepts: 3600 to 2592000 seconds. Raises ApiError."""
    if not isinstance(seconds, int) or not 3600 <= seconds <= 2_592_000:
        raise ApiError(400, f"Invalid '{name}': must be an integer from 3600 to 2592000.", param=name)
    return float(seconds)
