"""From a reply of the responses endpoint to a :class:`Response`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from promptmill.http import HttpResponse
from promptmill.jsontext import JSON
from promptmill.models import Response, Tier
from promptmill_openai.failures import failure_inside
from promptmill_openai.reply import (
    bad_reply,
    broken_off,
    finish_reason_of,
    json_object,
    model_of,
    refuse_error,
    tier_of,
)
from promptmill_openai.usage import responses_usage

_UNFINISHED: Final = ("queued", "in_progress")
_CALLS: Final = frozenset({"function_call", "custom_tool_call"})


def read_response(reply: HttpResponse, *, model: str | None, asked: Tier = "realtime") -> Response:
    """Read a reply with status 2xx. ``model`` and ``asked`` are what was asked for, kept when the reply does not say
    what was used.

    The text is that of all ``output_text`` parts of all messages; reasoning and calls stay in ``body``.

    Raises:
        ProviderError: the body is no answer (``bad_json``, ``bad_reply``, ``empty_reply``, ``not_finished``), its
            status is failed or cancelled, or it holds an error instead of an answer.
    """
    value = json_object(reply)
    _refuse_status(value, reply)
    refuse_error(value, reply, instead_of="output")
    output = value.get("output")
    if not isinstance(output, list):
        raise bad_reply(reply, "holds no output", code="empty_reply")
    parts = list(_parts(output))
    texts = [part["text"] for part in parts if part.get("type") == "output_text" and isinstance(part.get("text"), str)]
    refusals = [part["refusal"] for part in parts if isinstance(part.get("refusal"), str)]
    text, finish_reason = "".join(texts) if texts else None, _finish_reason(value, output, reply)
    if refusals:
        text, finish_reason = "".join(refusals), "refusal"
    if text is None and finish_reason == "stop":
        raise bad_reply(reply, "holds no answer", code="empty_reply")
    return Response(
        text=text,
        finish_reason=finish_reason,
        model=model_of(value, model),
        tier=tier_of(value, asked=asked),
        usage=responses_usage(value.get("usage")),
        request_id=reply.headers.get("x-request-id"),
        body=reply.body,
    )


def _refuse_status(value: Mapping[str, JSON], reply: HttpResponse) -> None:
    status = value.get("status")
    if status == "failed":
        # Of the codes documented for a failed response only server_error and rate_limit_exceeded may pass.
        error = value.get("error")
        raise failure_inside(error, reply, otherwise=400 if error else 500)
    if status == "cancelled":
        raise broken_off(reply, f"status {status!r}")
    if status in _UNFINISHED:
        raise bad_reply(reply, f"is not finished (status {status!r})", code="not_finished")


def _parts(output: list[JSON]) -> Iterator[dict[str, JSON]]:
    for item in output:
        if isinstance(item, dict) and item.get("type") == "message" and isinstance(item.get("content"), list):
            yield from (part for part in item["content"] if isinstance(part, dict))


def _finish_reason(value: Mapping[str, JSON], output: list[JSON], reply: HttpResponse) -> str | None:
    if value.get("status") == "incomplete":
        details = value.get("incomplete_details")
        reason = details.get("reason") if isinstance(details, dict) else None
        return finish_reason_of(reason, reply) or "incomplete"
    kinds = (item.get("type") for item in output if isinstance(item, dict))
    return "tool_calls" if any(isinstance(kind, str) and kind in _CALLS for kind in kinds) else "stop"
