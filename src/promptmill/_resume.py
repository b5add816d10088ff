"""Going on where the last run of a job stopped: is it the same job, the same input, and what is left to do?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec
from anyio import to_thread

from promptmill._input import InputReport, JobInput
from promptmill._journal import Journal, Store, damaged, request_digest
from promptmill._shelf import JournalShelf
from promptmill.errors import InputError, JobError, Problem
from promptmill.jsontext import JSON
from promptmill.models import BadRow, Request
from promptmill.secrets import names_a_secret

MOST_DIFFERENCES: Final = 10

_START_OVER: Final = "undo the change to go on with this run, or start over with `--fresh` (the old run is kept aside)"

_RETRY: Final = "if these are rows that failed and are corrected now, add `--retry-failed`"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is left to do. ``done`` has a byte for each input row: 1 when it has its record; ``held`` likewise: 1 when
    it is in a batch that is still to be collected."""

    input: InputReport
    done: bytearray
    held: bytearray
    added: int = 0
    """Rows that have come since the run began."""
    moved: tuple[str, ...] = ()
    """What has changed about where providers are, for people."""

    @property
    def finished(self) -> int:
        """Rows that have their record."""
        return sum(self.done)

    @property
    def pending(self) -> int:
        """Rows still to do, or to be collected."""
        return self.input.rows - self.finished

    @property
    def settled(self) -> bytearray:
        """Rows that need not be read any more."""
        return bytearray(map(int.__or__, self.done, self.held))


async def plan(
    journal: Journal,
    job_input: JobInput,
    identity: JSON,
    shelf: JournalShelf,
    where_only: Mapping[str, frozenset[str]] = MappingProxyType({}),
) -> Plan:
    """Compare the job and its input with what the journal knows; for a new run, note both.

    ``where_only`` are the members of a provider's identity that may change, unless it has batches to be collected.

    Raises:
        JobError: the job changed in a way that changes answers (E0340).
        InputError: the input is wrong, or rows that are finished changed, moved or went away (E0341).
    """
    saved = await journal.meta("job")
    if saved is None:
        report = await job_input.check()
        await journal.put_meta("input", msgspec.to_builtins(report))
        await journal.put_meta("job", identity)
        return Plan(input=report, done=bytearray(report.rows), held=bytearray(report.rows))
    moved: tuple[str, ...] = ()
    if saved != identity:
        if not shelf.is_empty or _without(saved, where_only) != _without(identity, where_only):
            raise _job_changed(saved, identity)
        moved = tuple(_differences(saved, identity))
        await journal.put_meta("job", identity)
    left = await _left(journal, job_input, shelf)
    return msgspec.structs.replace(left, moved=moved)


async def _left(journal: Journal, job_input: JobInput, shelf: JournalShelf) -> Plan:
    known = msgspec.convert(await journal.meta("input"), InputReport)
    if await job_input.source.fingerprint() != known.fingerprint:
        return await _plan_changed_input(journal, job_input, known, shelf)
    done = await journal.ask(lambda store: _done(store, known.rows))
    held = bytearray(known.rows)
    if not shelf.is_empty:
        for index in await to_thread.run_sync(_indexes, shelf):
            if index >= known.rows:
                raise damaged(shelf.directory, f"a batch has row {index + 1}, and the input has {known.rows}")
            held[index] = 1
    return Plan(input=known, done=done, held=held)


def _indexes(shelf: JournalShelf) -> list[int]:
    return [item.request.index for item in shelf.items()]


def _in_batches(shelf: JournalShelf) -> dict[str, tuple[int, bytes]]:
    return {item.request.id: (item.request.index, request_digest(item.request)) for item in shelf.items()}


def _done(store: Store, rows: int) -> bytearray:
    done = bytearray(rows)
    for index in store.finished_indexes():
        if not 0 <= index < rows:
            raise damaged(store.path, f"it has a result of row {index + 1}, and the input has {rows}")
        done[index] = 1
    return done


async def _plan_changed_input(journal: Journal, job_input: JobInput, known: InputReport, shelf: JournalShelf) -> Plan:
    finished = await journal.ask(lambda store: {id_: (index, digest) for index, id_, digest, _ in store.finished()})
    sent = await to_thread.run_sync(_in_batches, shelf)
    finished |= sent
    done, held = bytearray(), bytearray()
    changed: list[str] = []
    moved: list[str] = []

    def look(entry: Request | BadRow, index: int) -> None:
        id_ = entry.id if isinstance(entry, Request) else _id_of_bad_row(finished, index)
        before, digest = finished.pop(id_, (-1, b""))
        done.append(before >= 0 and id_ not in sent)
        held.append(before >= 0 and id_ in sent)
        if before < 0:
            return
        if digest != (request_digest(entry) if isinstance(entry, Request) else b""):
            changed.append(id_)
        elif before != index:
            moved.append(id_)

    report = await job_input.check(look)
    if changed or moved or finished:
        raise _input_changed({"changed": changed, "moved": moved, "went away": list(finished)})
    await journal.put_meta("input", msgspec.to_builtins(report))
    return Plan(input=report, done=done, held=held, added=report.rows - known.rows)


def _id_of_bad_row(finished: Mapping[str, tuple[int, bytes]], index: int) -> str:
    """Under which id the record of the bad row ``index`` is kept: its number, or, where that is the id of a good row,
    its number with ``row-`` before it. Empty when it has no record."""
    number = str(index + 1)
    return next((id_ for id_ in (f"row-{number}", number) if finished.get(id_, (-1, b""))[0] == index), "")


def _job_changed(saved: JSON, now: JSON) -> JobError:
    lines = list(_differences(saved, now))
    shown = lines[:MOST_DIFFERENCES]
    if len(lines) > len(shown):
        shown.append(f"... and {len(lines) - len(shown)} more")
    message = "the job has changed since this run began, and its answers would not go together:"
    return JobError("\n".join([message, *(f"    {line}" for line in shown)]), code="E0340", hint=_START_OVER)


def _input_changed(found: dict[str, list[str]]) -> InputError:
    problems = []
    for verb, ids in found.items():
        if ids:
            names = ", ".join(repr(id_) for id_ in ids[:MOST_DIFFERENCES])
            more = f" and {len(ids) - MOST_DIFFERENCES} more" if len(ids) > MOST_DIFFERENCES else ""
            message = f"{len(ids)} rows that are answered already {verb} in the input: {names}{more}"
            problems.append(Problem("E0341", message, None, f"{_RETRY}; otherwise {_START_OVER}"))
    return InputError("the input has changed since this run began", problems=tuple(problems))


def _without(identity: JSON, where_only: Mapping[str, frozenset[str]]) -> JSON:
    """The identity of a job but for where its providers are."""
    providers = {
        name: {key: value for key, value in one.items() if key not in where_only.get(name, ())}
        for name, one in identity["providers"].items()
    }
    return {**identity, "providers": providers}


def _differences(before: Any, now: Any, path: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted({*before, *now}):
            yield from _differences(before.get(key), now.get(key), f"{path}.{key}" if path else str(key))
    elif before != now:
        hidden = any(map(names_a_secret, path.split(".")))
        yield f"{path}: (not shown)" if hidden else f"{path}: {_shown(before)} -> {_shown(now)}"


def _shown(value: Any) -> str:
    if value is None:
        return "(not set)"
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
