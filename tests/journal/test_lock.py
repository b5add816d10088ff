"""One owner at a time, and its name."""

from __future__ import annotations

import multiprocessing
import os
import socket
from pathlib import Path
from typing import Any

import msgspec
import pytest

from promptmill._journal import lock as locks
from promptmill._journal.lock import Owner, RunLock
from promptmill.errors import RunLocked, StorageError


def take(path: Path) -> RunLock:
    lock = RunLock(path)
    lock.acquire(Owner.here(1_700_000_000.0))
    return lock


def test_the_message_names_host_process_and_time(tmp_path: Path) -> None:
    held = take(tmp_path / "lock")
    with pytest.raises(RunLocked) as caught:
        take(tmp_path / "lock")
    who = f"process {os.getpid()} on {socket.gethostname()}, since 2023-11-14 22:13:20 UTC"
    assert caught.value.message == f"the run is in the hands of {who}; nothing was sent"
    assert caught.value.hint == "wait for it, or look at it with `promptmill status`"
    assert (caught.value.code, caught.value.exit_code) == ("E0700", 7)
    held.release()
    take(tmp_path / "lock").release()


def test_looking_does_not_take(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not RunLock(path).is_held()
    held = take(path)
    assert RunLock(path).is_held()
    held.release()
    assert not RunLock(path).is_held()
    assert RunLock(path).owner() is not None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a process that dies")
def test_the_name_of_a_dead_process_is_not_believed(tmp_path: Path) -> None:
    """The holder has the lock, but its name is not there yet: the loser waits for it."""
    path = tmp_path / "lock"
    child = multiprocessing.get_context("spawn").Process(target=print)
    child.start()
    child.join()
    held = take(path)
    name = path.with_suffix(".owner")
    mine = name.read_bytes()
    name.write_bytes(msgspec.json.encode(Owner(socket.gethostname(), child.pid or 0, 0.0)))
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 20:
            name.write_bytes(mine)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(locks.time, "sleep", pause)
        with pytest.raises(RunLocked, match=f"process {os.getpid()} on"):
            take(path)
    assert len(pauses) == 20
    held.release()


def test_somebody_who_only_looks_does_not_keep_the_owner_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looking = take(tmp_path / "lock")
    monkeypatch.setattr(locks.time, "sleep", lambda _: looking.release())
    take(tmp_path / "lock").release()


def test_a_name_that_cannot_be_written_keeps_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> None:
        raise StorageError("No space left on device")

    monkeypatch.setattr(locks, "rename", full)
    held = take(tmp_path / "lock")
    with pytest.raises(RunLocked, match="in the hands of another process"):
        monkeypatch.setattr(locks, "_TRIES", 6)
        take(tmp_path / "lock")
    held.release()


def test_without_a_place_for_the_lock_nothing_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StorageError) as caught:
        take(tmp_path / "missing" / "lock")
    assert (caught.value.code, caught.value.exit_code) == ("E0646", 6)

    def unsupported(descriptor: int) -> Any:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(locks, "_try_lock", unsupported)
    with pytest.raises(StorageError, match="No locks available"):
        take(tmp_path / "lock")
