"""The simulator's own books: every request it got, and what came of it. Clients are checked against them."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

import msgspec

from promptmill.clock import Clock

Outcome: TypeAlias = Literal["answered", "refused", "rejected", "failed", "done"]
"""``answered``: a model worked, and the call is billed, whether or not the reply arrived. ``refused``: over a limit.
``rejected``: the request was wrong. ``failed``: a fault instead of an answer. ``done``: files, batches, models."""

OUTCOMES: Final[tuple[Outcome, ...]] = ("answered", "refused", "rejected", "failed", "done")


class Entry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One request. ``prompt`` is the name of the question (16 hexadecimal digits), ``fault`` the kind that hit it."""

    operation: str
    outcome: Outcome
    status: int
    at: float
    request_id: str | None = None
    model: str | None = None
    prompt: str | None = None
    custom_id: str | None = None
    batch: str | None = None
    fault: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0


class Ledger:
    """Counts everything; keeps the newest ``size`` entries."""

    def __init__(self, clock: Clock, size: int) -> None:
        self._clock = clock
        self._size = size
        self.in_flight = 0
        self.reset()

    def reset(self) -> None:
        """Start new books."""
        self.entries: deque[Entry] = deque(maxlen=self._size)
        self._outcomes: Counter[str] = Counter()
        self._operations: Counter[tuple[str, str]] = Counter()
        self._questions: set[int] = set()
        self._batches_ended: Counter[str] = Counter()
        self._batches_by_metadata: dict[str, Counter[str]] = {}
        self._batches_created = 0
        self._input_tokens = 0
        self._output_tokens = 0
        self.peak_in_flight = self.in_flight

    def began(self) -> None:
        """A request for a model is being worked on."""
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)

    def ended(self) -> None:
        self.in_flight -= 1

    def write(self, operation: str, outcome: Outcome, status: int, **details: Any) -> None:
        """Enter one request; ``details`` are further fields of :class:`Entry`."""
        entry = Entry(operation=operation, outcome=outcome, status=status, at=self._clock.wall(), **details)
        self._outcomes[outcome] += 1
        self._operations[operation, outcome] += 1
        if outcome == "answered":
            self._input_tokens += entry.input_tokens
            self._output_tokens += entry.output_tokens
            if entry.prompt is not None:
                self._questions.add(int(entry.prompt, 16))
        self.entries.append(entry)

    def batch_created(self, metadata: Mapping[str, str]) -> None:
        """There is a new batch, whether or not the client got to know."""
        self._batches_created += 1
        for key, value in metadata.items():
            self._batches_by_metadata.setdefault(key, Counter())[value] += 1

    def batch_ended(self, status: str) -> None:
        self._batches_ended[status] += 1

    def summary(self, entries: int | None = None) -> dict[str, Any]:
        """The books as JSON. ``paid_calls`` were billed, for ``paid_prompts`` different questions.

        A question is the same when its words are, asked singly or in a batch.

        Args:
            entries: how many of the newest entries to include; None means all that are kept.
        """
        operations: dict[str, dict[str, int]] = {}
        for (operation, outcome), count in sorted(self._operations.items()):
            operations.setdefault(operation, {})[outcome] = count
        kept = list(self.entries)
        shown = kept if entries is None else kept[len(kept) - min(entries, len(kept)) :]
        paid = self._outcomes["answered"]
        return {
            "requests": self._outcomes.total(),
            "outcomes": {outcome: self._outcomes[outcome] for outcome in OUTCOMES},
            "operations": operations,
            "paid_calls": paid,
            "paid_prompts": len(self._questions),
            "paid_again": paid - len(self._questions),
            "files_uploaded": self._operations["files.create", "done"],
            "batches": {
                "created": self._batches_created,
                "ended": dict(sorted(self._batches_ended.items())),
                "by_metadata": {key: dict(values) for key, values in sorted(self._batches_by_metadata.items())},
            },
            "input_tokens": self._input_tokens,
            "output_tokens": self._output_tokens,
            "in_flight": self.in_flight,
            "peak_in_flight": self.peak_in_flight,
            "entries_kept": len(kept),
            "entries": [msgspec.to_builtins(entry) for entry in shown],
        }
