"""Secrets: a type that never prints."""

from __future__ import annotations

from typing import Final

MASK: Final = "***"


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
