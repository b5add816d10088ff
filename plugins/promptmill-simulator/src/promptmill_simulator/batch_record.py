"""A batch as the API shows it. Shape: ``Batch`` of the OpenAPI description, absent members left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from promptmill_simulator.batch_script import BatchProblem

TERMINAL: Final = frozenset({"completed", "failed", "expired", "cancelled"})


class BatchOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for."""

    input_file_id: str
    endpoint: str
    metadata: dict[str, str] | None
    output_lifetime: float


class BatchRecord:
    """One batch and all that has happened to it. Times are seconds since the epoch."""

    def __init__(self, batch_id: str, order: BatchOrder, created_at: float, expires_at: float) -> None:
        self.id = batch_id
        self.order = order
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
        optional = {
            "model": self.model,
            "errors": None if self._problems is None else {"object": "list", "data": self._problems},
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
            **{name: value for name, value in optional.items() if value is not None},
            **self._stamps,
            "request_counts": {"total": self.total, "completed": self.completed, "failed": self.failed},
        }

    def _usage(self) -> dict[str, Any]:
        return {
            "input_tokens": self.input_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": self.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": self.input_tokens + self.output_tokens,
        }
