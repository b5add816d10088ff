"""The lines of output and error files. Which file a line is in says nothing: its status and its body do.

Source of the two shapes of an error: the batch guide (``response`` null, ``error`` set) and reports of lines with a
``status_code`` other than 200, found in both files.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Final, TypeAlias

import msgspec
from anyio import to_thread

from promptmill import jsontext
from promptmill.batch import BatchLine
from promptmill.errors import AuthFailed, BadOutput, Permanent, ProviderError, Transient
from promptmill.files import open_to_read
from promptmill.http import HttpResponse
from promptmill.jsontext import JSON
from promptmill.models import Response
from promptmill_openai.failures import failure_inside, failure_of_reply

GROUP: Final = 500
"""Lines read at a time."""

_NOT_DONE: Final = frozenset({"batch_expired", "batch_cancelled"})
"""The request was not carried out and not billed. Source: the batch guide for the first."""

Reader: TypeAlias = Callable[[HttpResponse], Response]
"""Reads a reply with status 2xx of the endpoint that the batch was made for. Raises ProviderError."""


async def lines_of(path: Path, read: Reader) -> AsyncIterator[Sequence[BatchLine]]:
    """Yield the lines of a file that was downloaded whole, in groups."""
    file = await to_thread.run_sync(open_to_read, path)
    try:
        while raw := await to_thread.run_sync(_next, file):
            found = await to_thread.run_sync(_read_group, raw, read)
            if found:
                yield found
    finally:
        file.close()


def line_of(raw: bytes, read: Reader) -> BatchLine | None:
    """Read one line. None when it says nothing about any request. Never raises."""
    raw = raw.removeprefix(b"\xef\xbb\xbf").strip(b" \t\r\n")
    try:
        value = jsontext.decode(raw) if raw else None
    except jsontext.BadJSON:
        return None
    if not isinstance(value, dict) or not isinstance(value.get("custom_id"), str):
        return None
    wire_id = value["custom_id"]
    try:
        return BatchLine(wire_id=wire_id, outcome=_answer(value, read))
    except AuthFailed as failure:
        # Said of one line hours ago; it is no reason to stop all others.
        return BatchLine(wire_id=wire_id, outcome=Permanent(failure.message, code=failure.code, http_status=401))
    except ProviderError as failure:
        return BatchLine(wire_id=wire_id, outcome=failure)


def _answer(value: Mapping[str, JSON], read: Reader) -> Response:
    response = value.get("response")
    if not isinstance(response, dict):
        raise _failure_without_reply(value.get("error"))
    status = response.get("status_code")
    body = response.get("body")
    request_id = response.get("request_id")
    reply = HttpResponse(
        status if isinstance(status, int) and 100 <= status <= 599 else 200,
        {"x-request-id": request_id} if isinstance(request_id, str) else {},
        # Some servers put the body's text there, as a string of its own.
        body.encode("utf-8", "replace") if isinstance(body, str) else b"" if body is None else jsontext.encode(body),
    )
    if 200 <= reply.status <= 299:
        return msgspec.structs.replace(read(reply), tier="batch")
    raise failure_of_reply(reply, wall=0.0)


def _failure_without_reply(error: JSON) -> ProviderError:
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(code, str) and code in _NOT_DONE:
        message = error.get("message")
        return Transient(message if isinstance(message, str) else f"the request was not done: {code}", code=code)
    if error:
        return failure_inside(error, HttpResponse(200, {}, b""), otherwise=500)
    return BadOutput("the line holds neither a response nor an error", code="bad_reply")


def _next(file: IO[bytes]) -> list[bytes]:
    # A binary file is split at newline bytes alone; text may hold other characters that look like line ends.
    return list(islice(file, GROUP))


def _read_group(raw: Sequence[bytes], read: Reader) -> list[BatchLine]:
    return [line for one in raw if (line := line_of(one, read)) is not None]
