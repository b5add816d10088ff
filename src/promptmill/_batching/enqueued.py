"""How many tokens a provider lets wait in batches at once, and which shards fit in now.

Providers do not say what the limit is until it is passed: then a batch fails as a whole, nothing is billed, and the
message names the limit (source: reports of users). So it is learned, and the same file is sent again later.
"""

from __future__ import annotations

from typing import Final

HEADROOM: Final = 0.95
"""The share of a learned limit that is used: our count of tokens is an estimate."""

SHRINK: Final = 0.5
"""When a batch is refused and no limit is named, this share of what was waiting is taken for the limit."""


class EnqueuedTokens:
    """The tokens of the batches a provider is working on, by shard, for one model of one account.

    ``limit`` is None while it is not known; then every shard may go.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self._waiting: dict[str, int] = {}

    @property
    def waiting(self) -> int:
        """Tokens in batches that are not over."""
        return sum(self._waiting.values())

    def fits(self, tokens: int) -> bool:
        """Whether a shard may be submitted now. One larger than the whole limit may go alone, and is refused."""
        if self.limit is None or not self._waiting:
            return True
        return self.waiting + tokens <= self.limit * HEADROOM

    def add(self, tag: str, tokens: int) -> None:
        """A shard is submitted, or about to be. Once more for the same shard changes nothing."""
        self._waiting[tag] = tokens

    def remove(self, tag: str) -> None:
        """The batch of a shard is over, or the shard was not taken."""
        self._waiting.pop(tag, None)

    def refused(self, tag: str, named: int | None) -> bool:
        """A shard was refused for want of room; ``named`` is the limit the provider gave as its reason.

        Returns whether it may fit later; False means that it never will as it is, and has to be split.
        """
        tokens = self._waiting.pop(tag, 0)
        if named is not None:
            self.limit = named
        elif self._waiting:
            guess = max(int((self.waiting + tokens) * SHRINK), tokens)
            self.limit = guess if self.limit is None else min(self.limit, guess)
        return bool(self._waiting) or (named is not None and tokens <= named)
