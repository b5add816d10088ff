"""From the chunks of a reply of llama.cpp to a response, or to a class of failure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn

from promptmill import jsontext
from promptmill.errors import Permanent, Transient
from promptmill.jsontext import JSON
from promptmill.models import UNKNOWN_USAGE, Response, Usage

_TOO_LONG = "exceed_context_size_error"


def read_reply(chunks: Iterable[bytes], model: str) -> Response:
    """Join the chunks of one streamed reply.

    Raises:
        Permanent: the prompt is longer than a slot (``context_length_exceeded``), or the request is refused.
        Transient: the server failed, or the reply has no end.
    """
    texts: list[str] = []
    finish_reason: str | None = None
    usage = UNKNOWN_USAGE
    request_id: str | None = None
    for chunk in chunks:
        data = jsontext.decode(chunk)
        if "error" in data:
            _fail(data["error"])
        request_id = data.get("id", request_id)
        if data.get("usage"):
            usage = _usage(data["usage"])
        for choice in data.get("choices") or ():
            texts.append((choice.get("delta") or {}).get("content") or "")
            finish_reason = choice.get("finish_reason") or finish_reason
    if finish_reason is None:
        raise Transient("the model stopped before its answer was whole", code="incomplete")
    return Response(text="".join(texts), finish_reason=finish_reason, model=model, usage=usage, request_id=request_id)


def _usage(usage: JSON) -> Usage:
    return Usage(
        input_tokens=usage.get("prompt_tokens"),
        cached_tokens=(usage.get("prompt_tokens_details") or {}).get("cached_tokens"),
        output_tokens=usage.get("completion_tokens"),
    )


def _fail(error: JSON) -> NoReturn:
    """Source of the members: ``format_error_response`` of the llama.cpp server."""
    message, kind, status = str(error.get("message")), error.get("type"), error.get("code")
    if kind == _TOO_LONG:
        raise Permanent(message, code="context_length_exceeded")
    if isinstance(status, int) and 400 <= status < 500:
        raise Permanent(message)
    raise Transient(message, code="server_error")
