"""From a chat reply to a :class:`Response`: tolerant of servers, strict about what counts as an answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from promptmill.errors import BadOutput, Transient
from promptmill.http import HttpResponse
from promptmill.jsontext import JSON
from promptmill.models import Response, Tier
from promptmill_openai.failures import failure_inside
from promptmill_openai.usage import chat_usage

FINISH_REASONS: Final[Mapping[str, str]] = {
    "eos": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_length": "length",
    "max_output_tokens": "length",
    "safety": "content_filter",
    "content_filtered": "content_filter",
    "guardrail_intervened": "content_filter",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
}
"""Other servers' words for the five reasons (compared in lower case); unknown ones pass through as they came."""

_CANONICAL: Final = frozenset({"stop", "length", "content_filter", "tool_calls", "refusal"})
_BROKEN_OFF: Final = frozenset({"error", "abort", "insufficient_system_resource"})
"""Finish reasons of an answer the server did not end. Source: OpenRouter, vLLM and SGLang, DeepSeek."""


def read_chat(reply: HttpResponse, *, model: str | None, asked: Tier = "realtime") -> Response:
    """Read a chat completion with status 2xx. ``model`` and ``asked`` are what was asked for, kept when the reply does
    not say what was used.

    Only the first choice is read; the others stay in ``body``.

    Raises:
        ProviderError: the body is no chat completion (``bad_json``, ``bad_reply``, ``empty_reply``), holds an error
            instead of an answer, or an answer that the server broke off (``broken_off``).
    """
    value = json_object(reply)
    refuse_error(value, reply, instead_of="choices")
    choices = value.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict):
        raise bad_reply(reply, "holds no choices", code="empty_reply")
    if choice.get("error"):
        raise failure_inside(choice["error"], reply, otherwise=500)
    finish_reason = finish_reason_of(choice.get("finish_reason"), reply)
    message = choice.get("message")
    if not isinstance(message, dict):
        raise bad_reply(reply, "holds a choice without a message")
    text, refusal = _text(message.get("content")), message.get("refusal") or _refusal_part(message.get("content"))
    if isinstance(refusal, str) and refusal:
        text, finish_reason = refusal, "refusal"
    return Response(
        text=text,
        finish_reason=finish_reason,
        model=model_of(value, model),
        tier=tier_of(value, asked=asked),
        usage=chat_usage(value.get("usage")),
        request_id=reply.headers.get("x-request-id"),
        body=reply.body,
    )


def json_object(reply: HttpResponse) -> dict[str, JSON]:
    """The reply as a JSON object. Raises BadOutput when it is empty or something else."""
    if not reply.body.strip():
        raise bad_reply(reply, "is empty", code="empty_reply")
    try:
        value = reply.json()
    except BadOutput as failure:
        failure.request_id = reply.headers.get("x-request-id")
        raise
    if isinstance(value, list) and value and isinstance(value[0], dict) and value[0].get("error"):
        value = value[0]
    if not isinstance(value, dict):
        raise bad_reply(reply, "is not a JSON object")
    return value


def refuse_error(value: Mapping[str, JSON], reply: HttpResponse, *, instead_of: str) -> None:
    """Raise the ProviderError that ``value`` holds instead of the member named ``instead_of``, if it does."""
    if not value.get(instead_of) and (value.get("error") or value.get("object") == "error"):
        raise failure_inside(value.get("error") or value, reply, otherwise=500)


def bad_reply(reply: HttpResponse, what: str, *, code: str = "bad_reply") -> BadOutput:
    """An answer of the wrong shape, ready to be raised; ``what`` ends the sentence that begins with "the reply"."""
    return BadOutput(
        f"the reply {what}: {reply.excerpt()}",
        code=code,
        http_status=reply.status,
        request_id=reply.headers.get("x-request-id"),
    )


def finish_reason_of(reason: JSON, reply: HttpResponse) -> str | None:
    """The reason in our words. Raises Transient when it says that the server broke the answer off."""
    if not isinstance(reason, str) or not reason:
        return None
    lower = reason.lower()
    if lower in _BROKEN_OFF:
        raise broken_off(reply, f"finish_reason {reason!r}")
    return lower if lower in _CANONICAL else FINISH_REASONS.get(lower, reason)


def broken_off(reply: HttpResponse, sign: str) -> Transient:
    """An answer the server did not end, ready to be raised; ``sign`` is what shows it."""
    return Transient(
        f"the server broke the answer off: {sign}",
        code="broken_off",
        http_status=reply.status,
        request_id=reply.headers.get("x-request-id"),
    )


def model_of(value: Mapping[str, JSON], otherwise: str | None) -> str | None:
    """The model the reply names, else the one given."""
    model = value.get("model")
    return model if isinstance(model, str) and model else otherwise


def tier_of(value: Mapping[str, JSON], *, asked: Tier) -> Tier:
    """The tier that ``service_tier`` names; it may differ from the one asked for, which holds where there is no name.

    Servers that know tiers always name one, so a reply without one is from a server that has a single price: that of
    the tier the user asked for. Those dearer than realtime are realtime here.
    """
    used = value.get("service_tier")
    if not isinstance(used, str) or not used:
        return asked
    return "flex" if used == "flex" else "realtime"


def _text(content: JSON) -> str | None:
    if isinstance(content, list):
        parts = [part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)]
        return "".join(parts) if parts else None
    return content if isinstance(content, str) else None


def _refusal_part(content: JSON) -> str | None:
    parts = content if isinstance(content, list) else ()
    refusals = (part.get("refusal") for part in parts if isinstance(part, dict) and part.get("type") == "refusal")
    return next((refusal for refusal in refusals if isinstance(refusal, str)), None)
