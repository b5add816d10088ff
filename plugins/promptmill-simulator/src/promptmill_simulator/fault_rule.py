"""Rules that say which requests go wrong, and how. The text form is the ``--fault`` option's:

``KIND,key=value,...`` where KIND is a word such as ``reset`` or ``status=500``.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from promptmill.options import Duration
from promptmill_simulator.items import read_items, written
from promptmill_simulator.retry_after import NO_RETRY_AFTER, RetryAfterField

FaultKind: TypeAlias = Literal[
    "status", "html", "reset-early", "reset", "truncate", "hang", "drip", "close", "bad-json", "empty",
    "error-in-200", "refusal", "null-content", "no-usage",
]  # fmt: skip

Operation: TypeAlias = Literal[
    "chat", "responses", "embeddings", "batch-line", "models", "models.list", "models.retrieve",
    "files", "files.create", "files.list", "files.retrieve", "files.delete", "files.content",
    "batches", "batches.create", "batches.list", "batches.retrieve", "batches.cancel",
]  # fmt: skip
MODEL_OPERATIONS: Final[frozenset[str]] = frozenset({"chat", "responses", "embeddings"})

UNPROCESSED: Final[frozenset[str]] = frozenset({"status", "html", "reset-early"})
"""The request is not carried out: nothing is answered, nothing is billed."""

CONTENT: Final[frozenset[str]] = frozenset({"error-in-200", "refusal", "null-content", "no-usage"})
"""The request is carried out and the answer has something odd in it."""

DELIVERY: Final[frozenset[str]] = frozenset({"reset", "truncate", "hang", "drip", "close", "bad-json", "empty"})
"""The request is carried out and the reply is spoilt on its way."""


def group_of(operation: str) -> str:
    """What an endpoint belongs to: ``files`` for ``files.content``. Operations of models are groups of their own."""
    return operation.partition(".")[0]


class FaultRule(BaseModel):
    """One rule. Without ``rate``, ``every`` or ``times`` it hits every request it matches."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: FaultKind
    status: int = Field(500, ge=300, le=599, description="kind status: the HTTP status.")
    code: str | None = Field(None, description="kind status: error.code.")
    type: str | None = Field(None, description="kind status: error.type.")
    message: str | None = Field(None, description="kind status: error.message.")
    retry_after: RetryAfterField = Field(NO_RETRY_AFTER, description="none, 5, 0.5, 250ms, date:5, date:-60, absurd.")
    should_retry: bool | None = Field(None, description="The header x-should-retry.")
    rate: float = Field(1.0, ge=0, le=1, description="The share of matching requests that are hit.")
    every: int = Field(1, ge=1, description="Hit every nth of them.")
    times: int | None = Field(None, ge=1, description="Hit at most this many.")
    prompt: str | None = Field(None, description="Match requests whose prompt has this text in it.")
    id: str | None = Field(None, description="Match the line of a batch with this custom_id.")
    on: Operation | None = Field(None, description="Match this operation; default: chat, responses and embeddings.")
    bytes: int | None = Field(None, ge=0, description="truncate: bytes of body to send; drip: bytes at a time.")
    pause: Duration = Field(0.1, description="drip: time between two pieces.")
    wait: Duration | None = Field(None, description="hang: time until the reply; default: for ever.")

    @model_validator(mode="after")
    def _can_work(self) -> Self:
        if self.kind == "reset-early" and (self.prompt is not None or self.id is not None):
            raise ValueError("reset-early happens before the request is read: it cannot look at prompt or id")
        on_lines = self.on == "batch-line" or self.id is not None
        if on_lines and self.kind not in CONTENT | {"status"}:
            raise ValueError(
                f"a line of a batch has no connection: kind {self.kind!r} does not fit on=batch-line or id"
            )
        if self.kind in CONTENT and self.on is not None and group_of(self.on) in ("models", "files", "batches"):
            raise ValueError(f"kind {self.kind!r} is about answers of a model: it does not fit on={self.on}")
        return self

    def about(self, operation: str) -> bool:
        """Whether the rule can hit this operation."""
        if self.on is not None:
            return self.on in (operation, group_of(operation))
        return operation == "batch-line" if self.id is not None else operation in MODEL_OPERATIONS

    def __str__(self) -> str:
        """The text form of the rule."""
        given = self.model_dump(exclude_defaults=True, exclude={"kind"})
        parts = [f"status={self.status}" if self.kind == "status" else self.kind]
        given.pop("status", None)
        parts += [f"{name.replace('_', '-')}={written(value)}" for name, value in given.items()]
        return ",".join(parts)


def parse_fault(text: str) -> FaultRule:
    """Read the text form of a rule.

    Raises:
        ValueError: the text does not follow the grammar, or a value does not fit.
    """
    fields: dict[str, Any] = {}
    for word, given in read_items(text, "fault", "KIND,key=value,... such as reset,rate=0.1"):
        name, value = word.replace("-", "_"), given
        if value is None:
            name, value = "kind", word
        elif name == "status":
            fields["kind"] = "status"
        if name in fields and name != "kind":
            raise ValueError(f"fault {text!r}: {word!r} is given twice")
        if name == "kind" and "kind" in fields:
            raise ValueError(f"fault {text!r}: {fields['kind']!r} and {value!r} are both kinds; one rule has one")
        fields[name] = value
    if "kind" not in fields:
        raise ValueError(f"fault {text!r} has no kind; begin it with one, such as status=500 or reset")
    return FaultRule.model_validate(fields)


def _read(value: object) -> object:
    return parse_fault(value) if isinstance(value, str) else value


Fault = Annotated[FaultRule, BeforeValidator(_read)]
"""A pydantic field type: a rule, or its text form."""
