"""What the headers of a reply say of rate limits, in every dialect there is."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, NamedTuple

from promptmill.http._replies import _epoch, _number
from promptmill.models import LimitedThing, LimitReading

_MARK: Final = "ratelimit-"
_FIELDS: Final[Mapping[str, int]] = {"limit": 0, "remaining": 1, "reset": 2}

_MINUTE: Final = 60.0
_STILL_A_MINUTE: Final = 120.0
"""Seconds. A moment told to the second, by another clock, may be that of a minute's end and still look later."""
_HOUR: Final = 3600.0
_DAY: Final = 86400.0
_WINDOWS: Final[Mapping[str, float]] = {
    "second": 1.0,
    "minute": _MINUTE,
    "hour": _HOUR,
    "day": _DAY,
    "week": 7 * _DAY,
    "month": 30 * _DAY,
}
_SHORT_WINDOW: Final = re.compile(r"([1-9]\d{0,3})([smhd])")
"""As in ``-requests-1h``."""

_INPUT: Final = frozenset({"input", "prompt"})
_OUTPUT: Final = frozenset({"output", "completion", "generated"})
_OWNERS: Final = frozenset({"account", "key", "organization", "project", "user", "workspace"})

_MOST: Final = 1e15
_LONGEST: Final = 366 * _DAY
"""What is above these two is no limit, and no wait, that anybody means."""

_OLDEST_EPOCH: Final = 1e9
_OLDEST_EPOCH_MS: Final = 1e11
"""A number above the first is a moment in seconds, above the second one in milliseconds."""

_UNITS: Final[Mapping[str, float]] = {
    "d": _DAY,
    "h": _HOUR,
    "m": _MINUTE,
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "\u00b5s": 1e-6,
    "\u03bcs": 1e-6,
    "ns": 1e-9,
}
_PART: Final = re.compile(r"(\d{1,12}(?:\.\d{1,18})?)(ms|us|\u00b5s|\u03bcs|ns|d|h|m|s)")
_DURATION: Final = re.compile(f"(?:{_PART.pattern}){{1,7}}")
_THOUSANDS: Final = re.compile(r"\s*\d{1,3}(?:,\d{3}){1,5}\s*")
_POLICY_WINDOW: Final = re.compile(r";\s*w(?:indow)?=(\d{1,9})(?![\d.])")


class _Limit(NamedTuple):
    """Which limit a header is about: those that are not equal are different limits."""

    prefix: str
    what: LimitedThing
    variant: str
    window: float | None


class _Place(NamedTuple):
    limit: _Limit
    field: int


def limits_of(headers: Mapping[str, str], *, wall: float) -> tuple[LimitReading, ...]:
    """What a reply says of rate limits, in the order of its headers; there may be several limits of one kind.

    Args:
        headers: the reply's, with lower-case names.
        wall: seconds since the epoch, for moments in a reply that has no readable ``date`` of its own.

    Reads ``x-ratelimit-{limit,remaining,reset}-{requests,tokens}``, the same words in the other order, names with a
    window (``-minute``), with no dimension (they are about requests) and with other prefixes. Resets may be durations
    (``6m0s``), seconds, or moments. What is negative, not finite, absurd or unreadable counts as absent. Without a
    window in the name it is a minute, unless the reset is further away: then an hour or a day, as fits what was used.
    Never raises.
    """
    found: dict[_Limit, list[str]] = {}
    for name in headers:
        # Most replies have no such header, and what is not one should not fill the cache.
        if _MARK in name:
            place = _place(name)
            if place is not None:
                found.setdefault(place.limit, ["", "", ""])[place.field] = headers[name]
    if not found:
        return ()
    date = headers.get("date")
    readings = (_reading(limit, texts, date, wall) for limit, texts in found.items())
    return tuple(reading for reading in readings if reading is not None)


@lru_cache(maxsize=256)
def _place(name: str) -> _Place | None:
    """What a header is called after; None for one that is not about a limit we know."""
    prefix, _, rest = name.partition(_MARK)
    if prefix and not prefix.endswith("-"):
        return None
    words = rest.replace("_", "-").split("-")
    if words[0] in _FIELDS:
        field = _FIELDS[words.pop(0)]
    elif words[-1] in _FIELDS:
        field = _FIELDS[words.pop()]
    else:
        return None
    window = _named_window(words[-1]) if words else None
    if window is not None:
        words.pop()
        if words and words[-1] == "per":
            words.pop()
    what = _thing(words)
    return None if what is None else _Place(_Limit(prefix, what, "-".join(words), window), field)


def _named_window(word: str) -> float | None:
    short = _SHORT_WINDOW.fullmatch(word)
    return int(short[1]) * _UNITS[short[2]] if short else _WINDOWS.get(word)


def _thing(words: list[str]) -> LimitedThing | None:
    qualifiers = set(words)
    if "tokens" in qualifiers:
        # Tokens per anything that is no time are a size, not a rate.
        if "per" in qualifiers:
            return None
        if qualifiers & _INPUT:
            return "input_tokens"
        return "output_tokens" if qualifiers & _OUTPUT else "tokens"
    # Requests of another kind (concurrent ones, say) are not limited a minute, so only whose they are may be said.
    return "requests" if qualifiers - _OWNERS <= {"requests"} or words == ["req"] else None


def _reading(limit: _Limit, texts: list[str], date: str | None, wall: float) -> LimitReading | None:
    most, policy_window = _quota(texts[0])
    remaining = _amount(texts[1])
    if most is None and (remaining is None or texts[0]):
        # A limit of -1 or 0 is that of a server which does not know it, and then it does not know what is left either.
        return None
    reset_in = _reset_in(texts[2], date, wall)
    return LimitReading(
        what=limit.what,
        window=limit.window or policy_window or _window(most, remaining, reset_in),
        limit=most,
        remaining=remaining,
        reset_in=reset_in,
    )


@lru_cache(maxsize=64)
def _quota(text: str) -> tuple[float | None, float | None]:
    """The limit, and its window where the value says it: ``100;w=60``, or ``100, 10;w=1, 100;w=60``."""
    most = _amount(text) or None
    if most is None or "=" not in text:
        return most, None
    # The draft has the limit in force first and then all the policies, of which only that one's window is wanted.
    for policy in text.split(","):
        window = _POLICY_WINDOW.search(policy)
        if window and _amount(policy) == most and 0 < int(window[1]) <= _LONGEST:
            return most, float(window[1])
    return most, None


def _amount(text: str) -> float | None:
    if not text:
        return None
    value = _number(text)
    if value is None and _THOUSANDS.fullmatch(text):
        value = _number(text.replace(",", ""))
    elif value is None:
        value = _number(text.partition(";")[0].partition(",")[0])
    return value if value is not None and value <= _MOST else None


def _reset_in(text: str, date: str | None, wall: float) -> float | None:
    text = text.strip()
    if not text:
        return None
    # Asking first is quicker than a failing conversion, and most resets are no plain numbers.
    seconds = _number(text) if text[-1].isdigit() else None
    if seconds is None and _DURATION.fullmatch(text):
        seconds = sum(float(amount) * _UNITS[unit] for amount, unit in _PART.findall(text))
    moment = _moment(text) if seconds is None else _stamp(seconds)
    if moment is not None:
        sent = _sent(date)
        seconds = moment - (wall if sent is None else sent)
    return seconds if seconds is not None and 0 <= seconds <= _LONGEST else None


def _stamp(number: float) -> float | None:
    """Seconds since the epoch, when a number is so large that it means that."""
    if number <= _OLDEST_EPOCH:
        return None
    return number if number <= _OLDEST_EPOCH_MS else number / 1000


def _moment(text: str) -> float | None:
    """Seconds since the epoch of an RFC 3339 timestamp or an HTTP date."""
    try:
        moment = datetime.fromisoformat(text.upper())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return _epoch(text)


@lru_cache(maxsize=16)
def _sent(date: str | None) -> float | None:
    """Kept, as all replies of a second have the same date and reading it takes longer than all the rest."""
    return _epoch(date)


def _window(limit: float | None, remaining: float | None, reset_in: float | None) -> float:
    """The window that no header names, guessed from how long the limit takes to fill up what was used of it."""
    if reset_in is None or reset_in <= _MINUTE:
        return _MINUTE
    if limit is None or remaining is None or remaining >= limit:
        return _MINUTE if reset_in <= _STILL_A_MINUTE else _HOUR if reset_in <= _HOUR else _DAY
    implied = reset_in * limit / (limit - remaining)
    if implied <= _STILL_A_MINUTE:
        return _MINUTE
    return max(_HOUR if implied < math.sqrt(_HOUR * _DAY) else _DAY, reset_in)
