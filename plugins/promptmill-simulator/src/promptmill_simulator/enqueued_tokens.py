"""The limit on input tokens that wait in batches, for each model.

Sources: the Batch API guide (a batch counts until it has ended), openai-python#2084 (what going over it looks like).
"""

from __future__ import annotations


class EnqueuedTokens:
    """Holds the tokens of each batch under way. ``limit`` None: there is none."""

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self._held: dict[str, tuple[str | None, int]] = {}

    def admit(self, batch_id: str, model: str | None, tokens: int) -> bool:
        """Hold the tokens of a batch if there is room for them; say whether there is."""
        if self.limit is not None and self.held(model) + tokens > self.limit:
            return False
        self._held[batch_id] = (model, tokens)
        return True

    def release(self, batch_id: str) -> None:
        """Make room: the batch has ended. One that holds nothing is no error."""
        self._held.pop(batch_id, None)

    def held(self, model: str | None) -> int:
        """Tokens that the batches for ``model`` hold."""
        return sum(tokens for owner, tokens in self._held.values() if owner == model)
