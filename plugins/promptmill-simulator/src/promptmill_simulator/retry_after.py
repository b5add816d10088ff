"""The forms in which servers say when to come back."""

from __future__ import annotations

from email.utils import formatdate
from typing import Annotated, Final, Literal

import msgspec
from pydantic import PlainSerializer, PlainValidator

from promptmill_simulator.apierror import Headers

ABSURD_SECONDS: Final = 10 * 365 * 86400


class RetryAfter(msgspec.Struct, frozen=True):
    """``seconds``: the header ``retry-after`` as written. ``ms``: ``retry-after-ms``. ``date``: ``retry-after`` as an
    HTTP date ``amount`` seconds from now, in the past when negative."""

    form: Literal["none", "seconds", "ms", "date"]
    amount: str = ""

    def __str__(self) -> str:
        return {"none": "none", "seconds": self.amount, "ms": f"{self.amount}ms", "date": f"date:{self.amount}"}[
            self.form
        ]

    def headers(self, wall: float) -> Headers:
        """The headers to send when the time is ``wall`` (seconds since the epoch)."""
        if self.form == "seconds":
            return [(b"retry-after", self.amount.encode())]
        if self.form == "ms":
            return [(b"retry-after-ms", self.amount.encode())]
        if self.form == "date":
            return [(b"retry-after", formatdate(wall + float(self.amount), usegmt=True).encode())]
        return []


NO_RETRY_AFTER: Final = RetryAfter("none")


def parse_retry_after(value: object) -> RetryAfter:
    """Read ``none``, ``absurd``, seconds (``5``, ``0.5``, ``-1``), milliseconds (``250ms``) or ``date:SECONDS``.

    Raises:
        ValueError: the value is none of these.
    """
    if isinstance(value, RetryAfter):
        return value
    text = str(value).strip()
    if text in ("none", ""):
        return NO_RETRY_AFTER
    if text == "absurd":
        return RetryAfter("seconds", str(ABSURD_SECONDS))
    if text.startswith("date:"):
        return RetryAfter("date", _number(text.removeprefix("date:")))
    if text.endswith("ms"):
        return RetryAfter("ms", _number(text.removesuffix("ms")))
    return RetryAfter("seconds", _number(text))


def _number(text: str) -> str:
    if not -1e10 < float(text) < 1e10:
        raise ValueError(f"{text!r} is not a number of seconds a header can carry")
    return text.strip()


RetryAfterField = Annotated[RetryAfter, PlainValidator(parse_retry_after), PlainSerializer(str)]
"""A pydantic field type: how a reply says when to come back."""
