"""Everything that can be set about a simulator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from promptmill.secrets import Secret
from promptmill_simulator.answers import AnswerKind, Lengths, parse_lengths
from promptmill_simulator.batch_script import BatchTimes
from promptmill_simulator.batch_text import Script
from promptmill_simulator.fault_rule import Fault
from promptmill_simulator.latency import NO_LATENCY, Latency
from promptmill_simulator.limits import RateLimits


class ProviderChoice(BaseModel):
    """A real provider that answers behind the simulator: the name it is registered under, and its options."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    use: str
    options: dict[str, Any] = Field(default_factory=dict)


class SimulatorOptions(BaseModel):
    """What to simulate. Text forms such as ``latency="200ms..1s"`` and ``faults=["reset"]`` are the command's."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    host: str = Field("127.0.0.1", description="The address to listen on.")
    port: int = Field(0, ge=0, le=65535, description="The port to listen on; 0 takes a free one.")
    seed: int = Field(0, description="Answers, latencies and faults follow from it and from what is asked.")
    api_key: Secret | None = Field(None, description="The key to ask for; None takes every request.")
    models: tuple[str, ...] = Field((), description="The models there are; none means every name is one.")
    latency: Latency = Field(NO_LATENCY, description="Time until a model has answered.")
    limits: RateLimits = Field(default_factory=lambda: RateLimits.model_validate({}))
    faults: tuple[Fault, ...] = Field((), description="What goes wrong; of several rules that match, the first counts.")
    answers: AnswerKind = Field(
        "words", description="words: made from the question's digest, JSON when asked for; echo: the question."
    )
    answer_tokens: Lengths = Field(parse_lengths("16..64"), description="How long answers in words are.")
    answers_from: ProviderChoice | None = Field(None, description="A real provider that answers instead.")
    speed: float = Field(1.0, gt=0, description="How much faster files expire and batches run; 1000 makes 24 h 86 s.")
    batch: BatchTimes = Field(default_factory=lambda: BatchTimes.model_validate({}))
    scripts: tuple[Script, ...] = Field((), description="How batches go; the first that matches a batch counts.")
    enqueued_tokens: int | None = Field(
        None, ge=1, description="Input tokens of each model that may wait in batches; a batch beyond them fails."
    )
    ranges: bool = Field(True, description="Whether parts of files can be fetched; if not, always the whole comes.")
    keep_alive: int = Field(75, ge=1, description="Seconds until an idle connection is closed.")
    ledger_size: int = Field(100_000, ge=0, description="How many ledger entries are kept; all are counted.")
    data_dir: Path | None = Field(None, description="Where files are kept; default: a temporary directory.")
