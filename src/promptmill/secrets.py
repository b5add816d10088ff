"""Secrets: a type that never prints."""

from __future__ import annotations

import re
from typing import Final

MASK: Final = "***"

_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_ENDINGS: Final = (
    "apikey",
    "accesskey",
    "secretkey",
    "token",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "credential",
    "credentials",
    "authorization",
    "auth",
    "bearer",
    "cookie",
    "jwt",
)
_OTHER_KEYS: Final = frozenset({"cache", "idempotency", "partition", "primary", "sort"})
_OTHER_TOKENS: Final = frozenset({"bos", "end", "eos", "mask", "pad", "sep", "start", "stop", "unk"})


def names_a_secret(name: str) -> bool:
    """Whether a header or a member is named like a secret: ``x-goog-api-key``, ``X-Auth-Token``, ``clientSecret``.

    Not ``max_tokens``, ``prompt_cache_key`` or ``eos_token``.
    """
    words = [word.lower() for word in _WORD.findall(name)]
    if not words:
        return False
    before = words[-2] if len(words) > 1 else ""
    if words[-1] == "key":
        return before not in _OTHER_KEYS
    return words[-1].endswith(_ENDINGS) and before not in _OTHER_TOKENS


class Secret:
    """A value that shows as ``***`` in every text made of it; only :meth:`reveal` gives it away.

    It cannot be pickled, compared by accident or encoded as JSON.
    """

    __slots__ = ("__value",)

    def __init__(self, value: str) -> None:
        self.__value = value

    def reveal(self) -> str:
        """Return the value itself. Call it where the value goes on the wire, and nowhere else."""
        return self.__value

    def __repr__(self) -> str:
        return f"Secret({MASK!r})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __bool__(self) -> bool:
        return bool(self.__value)

    def __reduce__(self) -> str:
        raise TypeError("a secret cannot be pickled")
