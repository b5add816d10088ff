"""Retries are at most a tenth of all calls, so that trouble is not made worse by those it troubles.

What is over waits for its turn, and does not fail for it.
"""

from __future__ import annotations

from typing import Final

SHARE: Final = 0.1
_START: Final = 10.0
_MOST: Final = 50.0
_FLOOR: Final = 3


class RetryBudget:
    """Each call earns a tenth of a retry; a few may always be under way, or nothing would ever come to an end."""

    __slots__ = ("_left", "_under_way")

    def __init__(self) -> None:
        self._left = _START
        self._under_way = 0

    def allows(self, concurrency: int) -> bool:
        """Whether a retry may go now."""
        return self._left >= 1.0 or self._under_way < max(_FLOOR, SHARE * concurrency)

    def allows_more(self) -> bool:
        """Whether another call may be made that nothing depends on."""
        return self._left >= 1.0

    def sent(self, retry: bool) -> None:
        if retry:
            self._under_way += 1
            self._left = max(self._left - 1.0, 0.0)
        else:
            self._left = min(self._left + SHARE, _MOST)

    def ended(self, retry: bool) -> None:
        self._under_way -= retry
