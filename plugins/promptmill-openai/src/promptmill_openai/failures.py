"""From an error reply to a class of failure: the server's own words first, then the generic table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, TypeAlias

from promptmill.errors import AuthFailed, Permanent, ProviderError, QuotaExhausted, Throttled, Transient
from promptmill.http import HttpResponse, failure_of
from promptmill.jsontext import JSON
from promptmill.models import Tier
from promptmill_openai.errors import ErrorBody, read_body, read_value
from promptmill_openai.limits import NO_CAPACITY, is_without_capacity, limit_of

Verdict: TypeAlias = tuple[type[ProviderError], str]

BILLING: Final = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "billing_hard_limit_reached",
        "billing_not_active",
        "billing_error",
    }
)
"""Codes and types that mean the money is gone. Source: OpenAI's "Error codes" guide, and older values seen in use."""

_FILTERED: Final = (
    "content_filter",
    "content_policy_violation",
    "responsible_aipolicy_violation",
    "invalid_prompt",
    "bio_policy",
    "misalignment_policy_violation",
    "image_content_policy_violation",
)
_KNOWN: Final[Mapping[str, Verdict]] = {
    **{word: (QuotaExhausted, word) for word in BILLING},
    **dict.fromkeys(_FILTERED, (Permanent, "content_filter")),
    "context_length_exceeded": (Permanent, "context_length_exceeded"),
    "exceed_context_size_error": (Permanent, "context_length_exceeded"),  # llama.cpp
    "model_not_found": (Permanent, "model_not_found"),
    "invalid_api_key": (AuthFailed, "auth"),
    "in_flight_budget_exhausted": (Throttled, "in_flight_budget_exhausted"),  # OpenRouter, a 402 that passes
}
_BUSY: Final = frozenset(
    {"slow_down", "server_is_overloaded", "overloaded_error", "unavailable_error", "resource_unavailable"}
)
_BUSY_TEXT: Final = re.compile(r"server busy|loading model", re.IGNORECASE)
"""Source: Ollama's full queue and a llama.cpp server that is loading its model, both a 503 without ``retry-after``."""

_TOO_LONG: Final = re.compile(r"maximum context length|longer than the model's context length", re.IGNORECASE)
"""Source: vLLM and SGLang, whose codes are the bare HTTP status."""

_OVER_LIMIT: Final = re.compile(r"request too large", re.IGNORECASE)
"""Source: OpenAI's 429 for one request that alone is over the tokens-per-minute limit; waiting never helps."""

_STATUS_OF_WORD: Final[Mapping[str, int]] = {
    "server_error": 500,
    "internal_server_error": 500,
    "api_error": 500,
    "rate_limit_exceeded": 429,
    "server_is_overloaded": 503,
    "invalid_request_error": 400,
    "not_found_error": 404,
    "authentication_error": 401,
}
"""The status that an error inside HTTP 200 would have had."""

_STATUS_ALIASES: Final[Mapping[int, int]] = {NO_CAPACITY: 429}


FLEX_UNAVAILABLE: Final = "flex_unavailable"
"""The code of a flex call that was not taken, and not billed, as there is no capacity to spare now."""


def failure_of_reply(reply: HttpResponse, *, wall: float, tier: Tier = "realtime") -> ProviderError:
    """The failure that a reply with an error status stands for.

    Args:
        reply: the reply.
        wall: now, in seconds since the epoch.
        tier: the one asked for. A flex call that finds no capacity is Transient: another call may find some, and
            neither the pace nor an hour of patience, which a Throttled would bring, changes anything about it.
    """
    error = read_body(reply.body)
    said = reply.excerpt() if reply.body else "nothing"
    message = error.message or f"the server answered with status {reply.status} and said {said}"
    failure = _classified(reply.status, reply.headers, error, message, wall)
    if tier == "flex" and isinstance(failure, Throttled) and is_without_capacity(reply, failure):
        return _as(Transient, FLEX_UNAVAILABLE, failure)
    return failure


def failure_inside(value: JSON, reply: HttpResponse, *, otherwise: int) -> ProviderError:
    """The failure that an ``error`` member inside a reply with status 2xx stands for.

    Args:
        value: the member.
        reply: the reply it was found in.
        otherwise: the HTTP status to judge by when the error names nothing known.
    """
    error = read_value(value)
    guessed = (_STATUS_OF_WORD[word] for word in error.words() if word in _STATUS_OF_WORD)
    status = error.status or next(guessed, otherwise)
    message = error.message or "the reply holds an error without a message"
    # Its headers are those of a success: only the name of the call in them says anything.
    headers = {name: reply.headers[name] for name in ("x-request-id",) if name in reply.headers}
    failure = _classified(status, headers, error, message, 0.0)
    failure.http_status = reply.status
    return failure


def _classified(status: int, headers: Mapping[str, str], error: ErrorBody, message: str, wall: float) -> ProviderError:
    code = None if error.code == "rate_limit_exceeded" else error.code
    generic = failure_of(_STATUS_ALIASES.get(status, status), headers, message=message, code=code, wall=wall)
    generic.http_status = status
    known = _known(status, error)
    if known is not None:
        return _as(known[0], known[1], generic)
    if isinstance(generic, Throttled | Transient) and _is_busy(status, error):
        generic = _as(Throttled, error.code or "overloaded", generic)
    if isinstance(generic, Throttled):
        generic.dimension, wait = limit_of(error, headers)
        if generic.retry_after is None:
            generic.retry_after = wait
    return generic


def _known(status: int, error: ErrorBody) -> Verdict | None:
    """What the body alone decides, before any header."""
    reason = error.metadata.get("reason")
    words = (reason, *error.words()) if isinstance(reason, str) else error.words()
    for word in words:
        if word in _KNOWN:
            return _KNOWN[word]
    if status == 403 and "flagged_input" in error.metadata:  # OpenRouter's moderation
        return Permanent, "content_filter"
    if status in (400, 413) and _TOO_LONG.search(error.message):
        return Permanent, "context_length_exceeded"
    if status == 429 and _OVER_LIMIT.match(error.message):
        return Permanent, "request_over_limit"
    return None


def _is_busy(status: int, error: ErrorBody) -> bool:
    return any(word in _BUSY for word in error.words()) or (status == 503 and bool(_BUSY_TEXT.search(error.message)))


def _as(kind: type[ProviderError], code: str, failure: ProviderError) -> ProviderError:
    return kind(
        failure.message,
        code=code,
        http_status=failure.http_status,
        retry_after=failure.retry_after,
        request_id=failure.request_id,
    )
