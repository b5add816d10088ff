"""How a run stands, read from its journal; also while another process is at it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from promptmill._journal import DATABASE, RunLock, ShardRecord, Store
from promptmill._statepaths import is_file, is_folder, names_in
from promptmill.errors import UsageError

State = Literal["running", "finished", "unfinished"]


class SinkStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How far a sink is behind the journal, in results, and the rows it does not take, with its reasons."""

    name: str
    behind: int
    rejected: dict[str, str] = {}


class BatchesStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What one provider has in batches that are not collected, by its names for them where they are known."""

    provider: str
    requests: int
    handles: list[str | None]


class RunStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One run. ``total`` is None before its input has been looked at; ``owner`` is who has it or had it last."""

    format_version: int = 1
    run_id: str | None
    job: str
    directory: str
    state: State
    total: int | None
    succeeded: int
    failed: int
    skipped: int
    errors: dict[str, int] = {}
    owner: str | None = None
    sinks: list[SinkStatus] = []
    batches: list[BatchesStatus] = []


def run_status(directory: Path) -> RunStatus:
    """Read the status of the run kept in ``directory``.

    Raises:
        UsageError: there is no run.
        StorageError: its journal cannot be read.
    """
    if not is_file(directory / DATABASE):
        raise UsageError(f"there is no run in {str(directory)!r}", code="E0130", hint="`promptmill run JOB` starts one")
    lock = RunLock(directory / "lock")
    owner = lock.owner()
    running = lock.is_held()
    store = Store.read(directory / DATABASE)
    try:
        counts = store.counts()
        known = store.meta("input") or {}
        total = known.get("rows")
        finished = total is not None and sum(counts.values()) >= total
        # A sink in input order counts rows of the input, and commits that were superseded are none.
        last = sum(counts.values()) if store.meta("order") == "input" else store.last_seq
        return RunStatus(
            run_id=store.meta("run_id"),
            job=directory.name,
            directory=str(directory),
            state="running" if running else "finished" if finished else "unfinished",
            total=total,
            succeeded=counts.get("ok", 0),
            failed=counts.get("failed", 0),
            skipped=counts.get("skipped", 0),
            errors=store.error_counts(),
            owner=str(owner) if owner else None,
            batches=_batches(store),
            sinks=[
                SinkStatus(name=sink.name, behind=max(last - sink.seq, 0), rejected=store.rejected(sink.name))
                for sink in store.sinks()
            ],
        )
    finally:
        store.close()


def _batches(store: Store) -> list[BatchesStatus]:
    by_provider: dict[str, list[ShardRecord]] = {}
    for shard in store.shards():
        if shard.is_open:
            by_provider.setdefault(shard.provider, []).append(shard)
    return [
        BatchesStatus(
            provider=name, requests=sum(one.requests for one in shards), handles=[one.handle for one in shards]
        )
        for name, shards in sorted(by_provider.items())
    ]


def runs_in(state_directory: Path) -> list[RunStatus]:
    """The runs kept under ``state_directory``, by name."""
    found = [state_directory / name for name in names_in(state_directory)]
    return [run_status(one) for one in found if is_folder(one) and is_file(one / DATABASE)]
