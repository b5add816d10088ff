"""Which limit a 429 is about, and how long to wait when no ``retry-after`` says so."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from promptmill.errors import Throttled
from promptmill.http import HttpResponse
from promptmill_openai.errors import ErrorBody

MINUTE_WINDOW: Final = 120.0
"""Seconds. A limit that takes longer than this to refill is not one per minute; also the wait above which the official
SDK 3.54 gives up."""

_UNITS: Final[Mapping[str, float]] = {
    "h": 3600.0,
    "m": 60.0,
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "\u00b5s": 1e-6,
    "ns": 1e-9,
    "d": 86400.0,
}
_PART: Final = r"(\d{1,12}(?:\.\d{1,12})?)(ms|us|\u00b5s|ns|h|m|s|d)"
_GO_DURATION: Final = re.compile(f"(?:{_PART})+")
_TRY_AGAIN: Final = re.compile(rf"try again in ((?:{_PART})+)", re.IGNORECASE)
_PER: Final = re.compile(r"\b(requests|tokens) per (min|minute|hour|day|week|month)\b", re.IGNORECASE)
_CAPACITY: Final = frozenset({"resource_unavailable", "capacity_exceeded"})

NO_CAPACITY: Final = 498
"""Groq's status for a flex call without capacity, next to the code ``capacity_exceeded``."""

_SLOWER: Final = "slow_down"
"""The code that asks for fewer calls, whatever the tier."""


def limit_of(error: ErrorBody, headers: Mapping[str, str]) -> tuple[str | None, float | None]:
    """The limit that was hit, and the seconds to wait for it as far as the message or a reset header tells.

    The limit is ``requests`` or ``tokens`` (a minute), ``requests_per_day`` and so on, ``capacity`` (the flex tier has
    none to spare), or None when nothing says which.

    A reset header tells when the limit will be full again, not when one request fits, so it is used only where it
    shows that the limit is not one per minute.

    Source: the message reads "Rate limit reached for MODEL on requests per day (RPD): Limit 200, Used 200. Please try
    again in 7m12s."; the type is ``requests`` or ``tokens``.
    """
    dimension = _dimension(error)
    hint = _TRY_AGAIN.search(error.message)
    if hint:
        return dimension, go_duration(hint[1])
    if dimension in ("requests", "tokens") and headers.get(f"x-ratelimit-remaining-{dimension}") == "0":
        reset = go_duration(headers.get(f"x-ratelimit-reset-{dimension}", ""))
        if reset is not None and reset > MINUTE_WINDOW:
            return f"{dimension}_per_day", reset
    return dimension, None


def is_without_capacity(reply: HttpResponse, failure: Throttled) -> bool:
    """Whether the failure of a flex call means that there is no capacity to spare, rather than a limit of the account.

    The code of OpenAI's 429 for it is not documented. A real limit names itself in the type, the message or a header.
    """
    if reply.status == NO_CAPACITY or failure.dimension == "capacity":
        return True
    exhausted = any(
        name.startswith("x-ratelimit-remaining") and value.strip() == "0" for name, value in reply.headers.items()
    )
    named = failure.code == _SLOWER or failure.dimension is not None
    return reply.status == 429 and not (named or exhausted or failure.retry_after is not None)


def _dimension(error: ErrorBody) -> str | None:
    if any(word in _CAPACITY for word in error.words()):
        return "capacity"
    found = _PER.search(error.message)
    if found:
        what, window = found[1].lower(), found[2].lower()
        return what if window.startswith("min") else f"{what}_per_{window}"
    return error.type if error.type in ("requests", "tokens") else None


def go_duration(text: str) -> float | None:
    """Seconds from a duration as OpenAI writes it (``1s``, ``6m0s``, ``20ms``), or a bare number of seconds (Azure).

    None for what is not positive or not readable.
    """
    if _GO_DURATION.fullmatch(text):
        seconds = sum(float(amount) * _UNITS[unit] for amount, unit in re.findall(_PART, text))
    elif re.fullmatch(r"\d{1,12}(\.\d{1,12})?", text):
        seconds = float(text)
    else:
        return None
    return seconds if seconds > 0 else None
