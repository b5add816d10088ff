"""How a simulated batch goes: its times, and scripts for those that are to go another way."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from promptmill.options import Duration


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


class BatchProblem(BaseModel):
    """One entry of a failed batch's ``errors``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    code: str
    message: str
    line: int | None = Field(None, ge=1, description="1-based line of the input file.")
    param: str | None = None


class BatchScript(BaseModel):
    """A batch that goes its own way. The fields before ``times`` say which batches; left out, every one matches."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    nth: int | None = Field(None, ge=1, description="Match the nth batch that is created.")
    metadata: dict[str, str] = Field(default_factory=dict, description="Match batches that have all of these pairs.")
    times: BatchTimes | None = Field(None, description="Its own times.")
    stall_at: float | None = Field(None, ge=0, le=1, description="Stop working at this share of lines, until the end.")
    fail_with: tuple[BatchProblem, ...] = Field((), description="Fail validation with these, whatever the file holds.")

    def matches(self, number: int, metadata: dict[str, str]) -> bool:
        """Whether the script is about the batch with this number (from 1) and metadata."""
        if self.nth is not None and self.nth != number:
            return False
        return all(metadata.get(key) == value for key, value in self.metadata.items())
