"""Collecting a batch: every request has one outcome, whatever lines there are."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptmill._batching import Harvest, Item, Outcome, ShardWriter, refusal_of, wire_id
from promptmill.batch import (
    FINAL_STATES,
    BatchLimits,
    BatchLine,
    BatchProvider,
    BatchState,
    BatchStatus,
    LineProblem,
    Shard,
)
from promptmill.clock import SystemClock
from promptmill.errors import Permanent, ProviderError, StorageError
from promptmill.models import Request, Response

TAG = "tag"


class Lines(BatchProvider):
    """A provider whose result files are lines given to it, by the name of the file, in groups of three."""

    limits = BatchLimits(requests=2000, bytes=100_000)

    def __init__(self, files: dict[str, list[BatchLine]]) -> None:
        self.files = files

    async def read(self, path: Path) -> AsyncIterator[Sequence[BatchLine]]:
        lines = self.files[path.name]
        for at in range(0, len(lines), 3):
            await anyio.lowlevel.checkpoint()
            yield lines[at : at + 3]

    def encode(self, request: Request, wire_id: str) -> bytes:
        raise NotImplementedError

    async def find(self, tag: str) -> BatchStatus | None:
        raise NotImplementedError

    async def create(self, shard: Shard) -> BatchStatus:
        raise NotImplementedError

    async def poll(self, handle: str) -> BatchStatus:
        raise NotImplementedError

    async def download(self, handle: str, directory: Path) -> Sequence[Path]:
        raise NotImplementedError

    async def cancel(self, handle: str) -> None:
        raise NotImplementedError


def sealed(directory: Path, count: int) -> Shard:
    shard = ShardWriter(directory, TAG, Lines.limits, operation="chat", model=None)
    for at in range(count):
        shard.add(Item(Request(id=f"row-{at}", index=at), ("bulk",)), b"{}", 1)
    return shard.seal()


async def harvested(harvest: Harvest, files: Sequence[str]) -> list[Outcome]:
    return [outcome async for group in harvest.outcomes([Path(name) for name in files]) for outcome in group]


def answer(text: str) -> Response:
    return Response(text=text, tier="batch")


CODES = {
    "completed": "batch_missing",
    "expired": "batch_expired",
    "cancelled": "batch_cancelled",
    "failed": "batch_failed",
}


@settings(max_examples=60)
@given(
    st.integers(1, 12),
    st.lists(st.tuples(st.booleans(), st.integers(-3, 15), st.booleans()), max_size=40),
    st.sampled_from(sorted(FINAL_STATES)),
)
def test_every_request_once_and_the_first_line_counts(
    count: int, drawn: list[tuple[bool, int, bool]], state: BatchState
) -> None:
    files: dict[str, list[BatchLine]] = {"output": [], "errors": []}
    for at, (is_error, number, is_foreign) in enumerate(drawn):
        outcome: Response | ProviderError = Permanent(f"error {at}", code="bad") if is_error else answer(f"answer {at}")
        line = BatchLine(wire_id=wire_id("foreign" if is_foreign else TAG, number), outcome=outcome)
        files["errors" if is_error else "output"].append(line)
    expected: dict[int, Response | ProviderError] = {}
    for line in files["output"] + files["errors"]:
        for number in range(count):
            if line.wire_id == wire_id(TAG, number):
                expected.setdefault(number, line.outcome)
    with tempfile.TemporaryDirectory() as folder:
        harvest = Harvest(Lines(files), sealed(Path(folder), count), state, SystemClock())
        outcomes = anyio.run(harvested, harvest, ["output", "errors"])
    assert sorted(item.request.index for _, item, _ in outcomes) == list(range(count))
    for number, item, outcome in outcomes:
        assert number == item.request.index
        if item.request.index in expected:
            assert outcome is expected[item.request.index]
        else:
            assert isinstance(outcome, ProviderError)
            assert (outcome.retryable, outcome.info().code) == (True, CODES[state])
    assert harvest.counts.taken == len(expected)
    assert harvest.counts.taken + harvest.counts.duplicates + harvest.counts.unknown == len(drawn)


async def test_without_any_file_all_are_missing(tmp_path: Path) -> None:
    harvest = Harvest(Lines({}), sealed(tmp_path, 1201), "expired", SystemClock())
    groups = [len(group) async for group in harvest.outcomes([])]
    assert groups == [500, 500, 201]


async def test_lost_requests_are_no_reason_to_throw_results_away_quietly(tmp_path: Path) -> None:
    shard = sealed(tmp_path, 3)
    (tmp_path / f"{TAG}.items").unlink()
    with pytest.raises(StorageError) as caught:
        await harvested(Harvest(Lines({}), shard, "completed", SystemClock()), [])
    assert caught.value.code == "E0647"


def failed(*problems: LineProblem) -> BatchStatus:
    return BatchStatus(handle="b", state="failed", raw_state="failed", problems=problems)


def test_the_lines_at_fault_fail_and_the_rest_goes_on() -> None:
    refusal = refusal_of(
        failed(LineProblem(code="bad_line", message="no", line=2), LineProblem(code="x", message="far", line=99)), 4
    )
    assert {number: error.info().code for number, error in refusal.bad.items()} == {1: "bad_line"}
    assert [list(part) for part in refusal.parts] == [[0, 2, 3]]


def test_when_all_lines_are_at_fault_nothing_goes_on() -> None:
    refusal = refusal_of(failed(*(LineProblem(code="c", message="m", line=line) for line in (1, 2))), 2)
    assert sorted(refusal.bad) == [0, 1]
    assert refusal.parts == []


@given(st.integers(1, 60), st.data())
def test_without_lines_halves_find_what_is_at_fault(count: int, data: st.DataObject) -> None:
    """A provider that refuses every file with a bad request in it, and never says which."""
    spoiled = data.draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=3))
    waiting, fine, bad, tries = [list(range(count))], set[int](), set[int](), 0
    while waiting:
        numbers = waiting.pop()
        tries += 1
        if not spoiled & set(numbers):
            fine |= set(numbers)
            continue
        refusal = refusal_of(failed(LineProblem(code="invalid", message="something is wrong")), len(numbers))
        bad |= {numbers[at] for at in refusal.bad}
        waiting += [[numbers[at] for at in part] for part in refusal.parts]
    assert bad == spoiled
    assert fine == set(range(count)) - spoiled
    assert tries <= 1 + 2 * len(spoiled) * count.bit_length()
