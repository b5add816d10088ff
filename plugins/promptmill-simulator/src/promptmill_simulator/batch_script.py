"""How a simulated batch goes: its times, and scripts for those that are to go another way."""

from __future__ import annotations

from typing import Any, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from promptmill.options import Duration
from promptmill_simulator.batch_looks import BatchLooks
from promptmill_simulator.batch_problem import BatchProblem
from promptmill_simulator.batch_troubles import LineTroubles

Stage: TypeAlias = Literal["validating", "in_progress", "finalizing", "cancelling"]
NoFile: TypeAlias = Literal["none", "empty-id", "empty-file"]
"""What stands for a file without lines: no id, the id ``""``, or a file of 0 bytes."""


class BatchTimes(BaseModel):
    """How long a batch stays in each state, before ``speed`` divides it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    validating: Duration = Field(30.0, description="Time in validating.")
    in_progress: Duration = Field(3600.0, description="Time in in_progress; lines finish evenly over it.")
    finalizing: Duration = Field(60.0, description="Time in finalizing.")
    cancelling: Duration = Field(60.0, description="Time in cancelling; up to 10 minutes at the real one.")
    window: Duration = Field(86_400.0, description="The completion window: then the batch expires.")
    shuffle: bool = Field(True, description="Whether output lines come in another order than the input's.")
    max_requests: int = Field(50_000, ge=1, description="Lines a batch may have.")
    max_bytes: int = Field(200_000_000, ge=1, description="Bytes an input file may have.")


class BatchScript(BaseModel):
    """A batch that goes its own way. ``nth``, ``first`` and ``metadata`` say which; without them every one matches."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    nth: int | None = Field(None, ge=1, description="Match the nth batch that is created.")
    first: int | None = Field(None, ge=1, description="Match at most this many batches.")
    metadata: dict[str, str] = Field(default_factory=dict, description="Match batches that have all of these pairs.")
    times: BatchTimes | None = Field(None, description="Its own times.")
    stall_at: float | None = Field(None, ge=0, le=1, description="Stop working at this share of lines, until the end.")
    done: float | None = Field(
        None, ge=0, le=1, description="Share of lines to work on; default: all, none when expired or cancelled."
    )
    ending: Literal["completed", "expired", "cancelled"] | None = Field(
        None, description="End so once the share of lines is done, not when the window ends."
    )
    list_undone: bool | None = Field(
        None, description="Whether the error file lists lines that were not done; default: when expired."
    )
    stuck: tuple[Stage, ...] = Field((), description="Stay in these states for ever; only a cancel leads out of them.")
    fail_with: tuple[BatchProblem, ...] = Field((), description="Fail validation with these, whatever the file holds.")
    problems_as: Literal["object", "list"] = Field("object", description="The shape of errors: object, or a bare list.")
    nulls: bool = Field(False, description="Show members that are not known as null rather than leave them out.")
    output_file: NoFile = Field("none", description="Without a line of output: none, empty-id or empty-file.")
    error_file: NoFile = Field("none", description="Without a line that failed: none, empty-id or empty-file.")
    lines: LineTroubles = Field(default_factory=lambda: LineTroubles.model_validate({}))
    looks: BatchLooks = Field(default_factory=lambda: BatchLooks.model_validate({}))

    @model_validator(mode="before")
    @classmethod
    def _one_stage_will_do(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("stuck"), str):
            return {**values, "stuck": (values["stuck"],)}
        return values

    @model_validator(mode="after")
    def _can_be(self) -> Self:
        if self.stall_at is not None and (self.done is not None or self.ending is not None):
            raise ValueError("stall_at waits for the window: it goes neither with done nor with ending")
        if self.fail_with and self.ending is not None:
            raise ValueError(f"a batch that fails validation does not end as {self.ending!r} too")
        return self

    def matches(self, number: int, metadata: dict[str, str]) -> bool:
        """Whether the script is about the batch with this number (from 1) and metadata."""
        if self.nth is not None and self.nth != number:
            return False
        return all(metadata.get(key) == value for key, value in self.metadata.items())

    @property
    def share(self) -> float:
        """The share of lines that are worked on."""
        if self.stall_at is not None:
            return self.stall_at
        if self.done is not None:
            return self.done
        return 1.0 if self.ending in (None, "completed") else 0.0

    def lists_undone(self, ending: str | None) -> bool:
        """Whether lines that were not done are in the error file of a batch that ends so."""
        return ending == "expired" if self.list_undone is None else self.list_undone


USUAL_WAY = BatchScript.model_validate({})
"""Of batches that have no script."""
