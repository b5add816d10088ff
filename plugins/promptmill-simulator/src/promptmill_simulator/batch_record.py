"""A batch as the API shows it. Shape: ``Batch`` of the OpenAPI description, absent members left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from promptmill_simulator.batch_problem import BatchProblem
from promptmill_simulator.batch_script import BatchScript

TERMINAL: Final = frozenset({"completed", "failed", "expired", "cancelled"})
STATES: Final = ("in_progress", "finalizing", "cancelling", *sorted(TERMINAL))
"""Those with a time stamp."""


class BatchOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for."""

    input_file_id: str
    endpoint: str
    metadata: dict[str, str] | None
    output_lifetime: float


class BatchRecord:
    """One batch and all that has happened to it. Times are seconds since the epoch.

    ``looks`` and ``lists`` count how often clients have asked for it, and for lists since it was created.
    """

    def __init__(
        self, batch_id: str, order: BatchOrder, script: BatchScript, *, created_at: float, expires_at: float
    ) -> None:
        self.id = batch_id
        self.order = order
        self.script = script
        self.looks = self.lists = 0
        self.status = "validating"
        self.model: str | None = None
        self.total = self.completed = self.failed = 0
        self.input_tokens = self.output_tokens = 0
        self.output_file_id: str | None = None
        self.error_file_id: str | None = None
        self._problems: list[dict[str, Any]] | None = None
        self._stamps: dict[str, int] = {"created_at": int(created_at), "expires_at": int(expires_at)}

    @property
    def ended(self) -> bool:
        return self.status in TERMINAL

    def enter(self, status: str, wall: float) -> None:
        """Go to another state; ``wall`` is now."""
        self.status = status
        self._stamps[f"{status}_at"] = int(wall)

    def fail(self, problems: Sequence[BatchProblem], wall: float) -> None:
        """Go to ``failed`` because of the input."""
        self._problems = [problem.model_dump() for problem in problems]
        self.enter("failed", wall)

    def as_dict(self) -> dict[str, Any]:
        """The API's batch object."""
        nulls = self.script.nulls
        optional = {
            "model": self.model,
            "errors": self._errors(),
            "output_file_id": self.output_file_id,
            "error_file_id": self.error_file_id,
            "metadata": self.order.metadata,
            "usage": self._usage() if self.completed else None,
        }
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.order.endpoint,
            "input_file_id": self.order.input_file_id,
            "completion_window": "24h",
            "status": self.status,
            **{name: value for name, value in optional.items() if nulls or value is not None},
            **({f"{state}_at": None for state in STATES} if nulls else {}),
            **self._stamps,
            "request_counts": {"total": self.total, "completed": self.completed, "failed": self.failed},
        }

    def _errors(self) -> object:
        if self._problems is None or self.script.problems_as == "list":
            return self._problems
        return {"object": "list", "data": self._problems}

    def _usage(self) -> dict[str, Any]:
        return {
            "input_tokens": self.input_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": self.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": self.input_tokens + self.output_tokens,
        }
