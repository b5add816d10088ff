"""Bugs put in on purpose: the enumerator must see each of them, or it proves nothing about the program without them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from promptmill import _projection, files
from promptmill._journal import journal as journals
from promptmill._journal import tail as tails
from promptmill._journal.journal import Journal
from promptmill._journal.spending import Spending
from promptmill._journal.store import SinkState, Store
from promptmill._journal.tail import Tail
from promptmill._projection import Projection
from promptmill.files import DurableFile
from promptmill.sinks._appending import AppendingSink

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

Mutant = Callable[[pytest.MonkeyPatch], None]

SEARCH = 20


def no_sync(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(DurableFile, "fsync", lambda self: None)


def no_directory_sync(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(files, "fsync_dir", lambda path: None)


def position_before_its_sync(patch: pytest.MonkeyPatch) -> None:
    """Two commits swapped."""

    async def commit(self: Projection, wanted: bool) -> None:
        if wanted:
            position = {"bytes": self._sink._length}  # type: ignore[attr-defined]
            await self._journal.put_sink(SinkState(self._name, self._cursor.at, position))
            await self._sink.commit()

    patch.setattr(Projection, "_commit_if", commit)


def position_ahead_of_the_data(patch: pytest.MonkeyPatch) -> None:
    commit = AppendingSink.commit

    async def ahead(self: AppendingSink) -> Any:
        await commit(self)
        return {"bytes": self._length + 1}

    patch.setattr(AppendingSink, "commit", ahead)


def sequence_ahead_of_the_position(patch: pytest.MonkeyPatch) -> None:
    monkey = SinkState

    def ahead(name: str, seq: int, position: dict[str, Any]) -> SinkState:
        return monkey(name, seq + (seq > 0), position)

    patch.setattr(_projection, "SinkState", ahead)


def seen_before_its_commit(patch: pytest.MonkeyPatch) -> None:
    """A sink gets a group, and its position is kept, before the group is in the journal."""
    write = Journal.write

    async def late(self: Journal, results: Sequence[Any]) -> None:
        held = getattr(self, "held", [])
        self.held = results  # type: ignore[attr-defined]
        for one in results:
            self._received.pop(one.index, None)
        if held:
            await write(self, held)

    patch.setattr(Journal, "write", late)


def received_is_not_noted(patch: pytest.MonkeyPatch) -> None:
    append = Tail.append
    patch.setattr(Tail, "append", lambda self, kind, data: None if kind == tails.RECEIVED else append(self, kind, data))


def old_tail_dropped_first(patch: pytest.MonkeyPatch) -> None:
    def renewed(self: Tail, frames: Iterator[tails.Frame]) -> Tail:
        self.drop()
        following = Tail(self._directory, self._epoch, self._number + 1)
        for kind, payload in frames:
            following.append(kind, payload)
        return following

    patch.setattr(Tail, "renewed", renewed)


def tail_dropped_before_it_is_taken_in(patch: pytest.MonkeyPatch) -> None:
    recover = Journal._recover

    def early(self: Journal, left: Sequence[Path]) -> None:
        frames = {path: list(tails.frames_of(path)) for path in left}
        for path in left:
            files.remove(path)
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(journals, "frames_of", lambda path: iter(frames[path]))
            recover(self, left)

    patch.setattr(Journal, "_recover", early)


def taken_in_twice(patch: pytest.MonkeyPatch) -> None:
    """What is in the tail and in the database already is an answer to nothing: the database refuses it."""
    patch.setattr(journals, "_take", lambda missing, index: True)


def output_not_cut_back(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(DurableFile, "truncate", lambda self, length: None)


def zeros_are_frames(patch: pytest.MonkeyPatch) -> None:
    """No magic, no seed, and an empty payload is as good as any."""
    header = tails._HEADER

    def believing(path: Path) -> Iterator[tails.Frame]:
        data = path.read_bytes()
        at = 0
        while at + header.size <= len(data):
            _, kind, length, _ = header.unpack_from(data, at)
            yield kind, data[at + header.size : at + header.size + length]
            at += header.size + length

    patch.setattr(journals, "frames_of", believing)


def spending_forgets_the_unknown(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Spending, "with_unknown", lambda self, finished: self.totals)


def spending_is_not_noted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Journal, "spent", lambda self, totals: self._unsettled.clear())


def unknown_is_added_by_each_recovery(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(journals, "epoch_of", lambda path: 10**9)


def spending_is_committed_after_the_tails_are_gone(patch: pytest.MonkeyPatch) -> None:
    recover, append = Journal._recover, Store.append

    def late(self: Journal, left: Sequence[Path]) -> None:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(Store, "append", lambda self, results, meta=None: append(self, results))
            recover(self, left)
        if self.spent_before:
            append(self._store, (), meta={"spent": self.spent_before})

    patch.setattr(Journal, "_recover", late)


MUTANTS: list[Mutant] = [
    no_sync,
    no_directory_sync,
    position_before_its_sync,
    position_ahead_of_the_data,
    sequence_ahead_of_the_position,
    seen_before_its_commit,
    received_is_not_noted,
    old_tail_dropped_first,
    tail_dropped_before_it_is_taken_in,
    taken_in_twice,
    output_not_cut_back,
    zeros_are_frames,
    spending_forgets_the_unknown,
    spending_is_not_noted,
    unknown_is_added_by_each_recovery,
    spending_is_committed_after_the_tails_are_gone,
]


ONLY_IN_RECOVERY: list[Mutant] = [
    tail_dropped_before_it_is_taken_in,
    unknown_is_added_by_each_recovery,
    spending_is_committed_after_the_tails_are_gone,
]
"""Looking for these in a first life takes long and finds nothing."""


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
async def test_each_mutant_is_caught(lab: Any, mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant(monkeypatch)
    assert await is_caught(lab, in_recovery_first=mutant in ONLY_IN_RECOVERY), "no crash state shows what is wrong"


async def is_caught(lab: Any, *, in_recovery_first: bool) -> bool:
    chance = random.Random(5)
    life = lab.new()
    await life.run()
    if in_recovery_first and await is_caught_in_recovery(lab, life):
        return True
    for cut in range(len(life.disk.ops), -1, -1):
        if await lab.violations(life, cut):
            return True
        for _ in range(SEARCH // 5):
            if await lab.violations(life, cut, chance):
                return True
    return await is_caught_in_recovery(lab, life)


async def is_caught_in_recovery(lab: Any, life: Any) -> bool:
    for first in range(5, len(life.disk.ops), 7):
        second = lab.after(life, first)
        await second.run()
        earlier = frozenset(lab.noted(life, "received", first))
        for cut in range(second.born, len(second.disk.ops), 2):
            if await lab.violations(second, cut, None, earlier):
                return True
    return False
