"""What is wrong with a batch: the entries of ``errors`` of one that failed."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict, Field

TOKEN_LIMIT: Final = "token_limit_exceeded"  # noqa: S105
"""The code of a batch that did not fit among those that wait; seen at the official API (openai-python#2084)."""

USUAL_TOKEN_LIMIT: Final = 2_000_000
"""The limit in the reports of that code, named where the simulator has none of its own."""


class BatchProblem(BaseModel):
    """One entry of a failed batch's ``errors``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    code: str
    message: str | None = Field(None, description="Default: what the API says with this code.")
    line: int | None = Field(None, ge=1, description="1-based line of the input file.")
    param: str | None = None

    def told(self, model: str | None, limit: int | None) -> BatchProblem:
        """The problem with its message, about a batch for ``model``; ``limit`` is in enqueued tokens."""
        if self.message is not None:
            return self
        message = "The input file is not valid."
        if self.code == TOKEN_LIMIT:
            message = (
                f"Enqueued token limit reached for {model} in organization org-simulator. Limit: "
                f"{limit or USUAL_TOKEN_LIMIT:,} enqueued tokens. Please try again once some in_progress batches have "
                "been completed."
            )
        return self.model_copy(update={"message": message})
