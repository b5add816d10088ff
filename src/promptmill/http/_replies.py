"""What the status and the headers of a reply say: how long to wait, and which class of failure it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

from promptmill.errors import AuthFailed, Permanent, ProviderError, QuotaExhausted, Throttled, Transient

_STATUSES: Final[Mapping[int, tuple[type[ProviderError], str]]] = {
    400: (Permanent, "bad_request"),
    401: (AuthFailed, "auth"),
    402: (QuotaExhausted, "quota_exhausted"),
    403: (AuthFailed, "forbidden"),
    404: (Permanent, "not_found"),
    405: (Permanent, "method_not_allowed"),
    408: (Transient, "timeout"),
    409: (Transient, "conflict"),
    410: (Permanent, "gone"),
    413: (Permanent, "too_large"),
    415: (Permanent, "unsupported_media_type"),
    422: (Permanent, "unprocessable"),
    425: (Transient, "too_early"),
    429: (Throttled, "rate_limited"),
    500: (Transient, "server_error"),
    501: (Permanent, "not_implemented"),
    502: (Transient, "bad_gateway"),
    503: (Transient, "overloaded"),
    504: (Transient, "gateway_timeout"),
    529: (Throttled, "overloaded"),
}
"""Source: RFC 9110 and the retry rules of the official SDKs (408, 409, 429 and 5xx are tried again; 529 means
overloaded). 501 is the exception among 5xx: a server that lacks a feature will lack it next time."""


def retry_after(headers: Mapping[str, str], *, wall: float) -> float | None:
    """The seconds a reply asks to wait, or None when it does not say so in a usable way.

    Looks at ``retry-after-ms`` (milliseconds), then at ``retry-after`` as seconds (fractions are accepted), then as an
    HTTP date, counted from the reply's own ``date`` so that clocks which disagree do no harm, else from ``wall``
    (seconds since the epoch). What is negative, not finite, past or unreadable counts as absent. Never raises.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("retry-after")
    seconds = _number(text)
    if seconds is not None:
        return seconds
    moment = _epoch(text)
    if moment is None:
        return None
    sent = _epoch(headers.get("date"))
    wait = moment - (wall if sent is None else sent)
    return wait if 0 <= wait < math.inf else None


def failure_of(
    status: int, headers: Mapping[str, str], *, message: str, code: str | None = None, wall: float
) -> ProviderError:
    """The failure that a reply with an error status stands for, ready to be raised.

    Args:
        status: the HTTP status; 2xx is never a failure, so do not ask.
        headers: the reply's, with lower-case names.
        message: for people; usually what the provider says.
        code: the provider's own word for it; without one the status has a stable name.
        wall: seconds since the epoch, for ``retry-after`` dates.

    A provider that knows more (billing codes in a 429, say) decides first and asks here for the rest. The header
    ``x-should-retry`` overrides the table, but cannot make a refused key or an empty account worth another try.
    """
    wait = retry_after(headers, wall=wall)
    kind, default = _kind(status, wait)
    kind = _overridden(kind, status, headers.get("x-should-retry"))
    return kind(
        message,
        code=code or default,
        http_status=status,
        retry_after=wait,
        request_id=headers.get("x-request-id") or headers.get("request-id"),
    )


def _kind(status: int, wait: float | None) -> tuple[type[ProviderError], str]:
    if status == 503 and wait is not None:
        return Throttled, "overloaded"
    known = _STATUSES.get(status)
    if known is not None:
        return known
    if 500 <= status <= 599:
        return Transient, "server_error"
    if 300 <= status <= 399:
        return Permanent, "redirect"
    if 400 <= status <= 499:
        return Permanent, "bad_request"
    return Permanent, "unexpected_status"


def _overridden(kind: type[ProviderError], status: int, asked: str | None) -> type[ProviderError]:
    if kind in (AuthFailed, QuotaExhausted):
        return kind
    if asked == "false":
        return Permanent
    if asked == "true" and kind is Permanent and status >= 400:
        return Transient
    return kind


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 <= value < math.inf else None


def _epoch(text: str | None) -> float | None:
    """Seconds since the epoch of an HTTP date."""
    try:
        moment = parsedate_to_datetime(text or "")
        # Without a zone it is in UTC, as RFC 9110 has it.
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
