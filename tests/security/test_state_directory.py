"""A state directory that came with a stranger's files: nothing outside of it is read, written, deleted or sent."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from promptmill._journal import ShardRecord, Store
from promptmill.errors import StorageError
from promptmill.files import DurableFile, make_directory, remove, rename

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links need a right of their own there")

CANARY = b"canary-of-the-user " * 100


@pytest.fixture
def docs(desk: Any) -> Path:
    """What the user has beside the job, and would miss."""
    folder = desk.root / "docs"
    folder.mkdir()
    (folder / "thesis.txt").write_bytes(CANARY)
    (folder / "empty.txt").write_bytes(b"")
    desk.prompts(3)
    desk.write(name="night")
    return folder


def untouched(docs: Path) -> bool:
    return {path.name: path.read_bytes() for path in docs.iterdir()} == {"thesis.txt": CANARY, "empty.txt": b""}


def link(at: Path, target: Path) -> None:
    """As git keeps it: relative."""
    at.parent.mkdir(parents=True, exist_ok=True)
    at.symlink_to(os.path.relpath(target, at.parent))


FOLDERS = [".promptmill", ".promptmill/night", ".promptmill/night/run", ".promptmill/night/run/shards"]
FILES = [
    "ballast",
    "lock",
    "lock.new",
    "lock.owner",
    "run/journal.db",
    "run/journal.db-wal",
    "run/journal.db-shm",
    "run/journal.db-journal",
    "run/tail-1-1",
]


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("orders", [[], ["--fresh"]], ids=["run", "fresh"])
def test_a_folder_that_is_a_link(desk: Any, sim: Any, docs: Path, folder: str, orders: list[str]) -> None:
    if folder.endswith("shards") and orders:
        pytest.skip("the folder is set aside with the link in it")
    link(desk.root / folder, docs)
    done = desk.run("run", "job.yaml", *orders)
    assert (done.code, "error[E0618]" in done.err) == (6, True), done.err
    assert f"{folder}'" in done.err
    assert untouched(docs)
    assert sim.ledger()["requests"] == 0


@pytest.mark.parametrize("target", ["empty.txt", "absent.txt"])
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_a_link(desk: Any, sim: Any, docs: Path, name: str, target: str) -> None:
    if "tail" in name:  # without its journal it would be damage
        plant(desk.root, "t")
    link(desk.root / ".promptmill" / "night" / name, docs / target)
    done = desk.run("run", "job.yaml")
    if name == "lock.owner" and done.code == 0:  # a name in place of the link; what it led to was not touched
        assert untouched(docs)
        return
    assert (done.code, "error[E0618]" in done.err) == (6, True), done.err
    assert untouched(docs)
    assert sim.ledger()["requests"] == 0


@pytest.mark.parametrize("kind", ["pipe", "folder", "second name"])
@pytest.mark.parametrize("name", ["ballast", "lock", "lock.new", "run/journal.db", "run/tail-1-1"])
def test_a_file_of_another_kind(desk: Any, sim: Any, docs: Path, name: str, kind: str) -> None:
    path = desk.root / ".promptmill" / "night" / name
    if "tail" in name:
        plant(desk.root, "t")
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.hardlink_to(docs / "thesis.txt")
    done = desk.run("run", "job.yaml")
    assert (done.code, "error[E0618]" in done.err) == (6, True), done.err
    assert untouched(docs)
    assert sim.ledger()["requests"] == 0


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("name", ["", "ballast", "lock", "run", "run/shards", "run/journal.db"])
def test_what_belongs_to_somebody_else(desk: Any, sim: Any, docs: Path, name: str) -> None:
    path = desk.root / ".promptmill" / "night" / name
    (desk.root / ".promptmill" / "night" / "run" / "shards").mkdir(parents=True)
    if not path.exists():
        path.write_bytes(b"")
    os.chown(path, 12345, 12345)
    done = desk.run("run", "job.yaml")
    assert (done.code, "belongs to user 12345" in done.err) == (6, True), done.err
    assert sim.ledger()["requests"] == 0


def test_what_is_in_the_folder_of_shards_and_not_of_this_run_stays(desk: Any, docs: Path) -> None:
    shards = desk.root / ".promptmill" / "night" / "run" / "shards"
    link(shards / "x", docs)
    link(shards / "y.results", docs)
    (shards / "notes.txt").write_bytes(CANARY)
    (shards / "20200101-000000-abcdef-0123456789.jsonl").write_bytes(CANARY)
    done = desk.run("run", "job.yaml")
    assert done.code == 0, done.err
    assert untouched(docs)
    assert len(list(shards.iterdir())) == 4


@pytest.mark.parametrize("what", ["items", "jsonl", "results"])
def test_a_link_named_as_a_file_of_a_batch(desk: Any, simulate: Callable[..., Any], docs: Path, what: str) -> None:
    sim = simulate(answers="echo")
    desk.base_url = sim.base_url
    desk.write(name="night", provider={"use": "openai-batch", "max_concurrency": None, "poll_interval": "10ms"})
    tag = "20200101-000000-abcdef-0123456789"
    shards = plant(desk.root, tag)
    link(shards / f"{tag}.{what}", docs if what == "results" else docs / "thesis.txt")
    done = desk.run("run", "job.yaml")
    assert done.code == 6, done.err
    assert untouched(docs)
    assert sim.ledger()["files_uploaded"] == 0


@pytest.mark.parametrize("tag", ["../../../../docs/thesis", "/etc/x", "a/b", "..", ""])
def test_a_tag_that_is_a_path(desk: Any, docs: Path, tag: str) -> None:
    plant(desk.root, tag)
    done = desk.run("run", "job.yaml")
    assert (done.code, "error[E0644]" in done.err) == (6, True), done.err
    assert untouched(docs)


def plant(root: Path, tag: str) -> Path:
    """A state directory with a journal that knows of an open shard."""
    run = root / ".promptmill" / "night" / "run"
    (run / "shards").mkdir(parents=True)
    store = Store.open(run / "journal.db")
    store.put_meta("run_id", "20200101-000000-abcdef")
    store.put_shard(
        ShardRecord(
            tag=tag, provider="fast", state="submitting", requests=1, bytes=9, tokens=1, operation="chat", model="m"
        )
    )
    store.close()
    return run / "shards"


def test_a_rollback_journal_that_names_another_file(desk: Any, docs: Path) -> None:
    plant(desk.root, "t")
    journal = desk.root / ".promptmill" / "night" / "run" / "journal.db-journal"
    journal.write_bytes(bytes(512) + bytes.fromhex("d9d505f920a163d7"))
    done = desk.run("run", "job.yaml")
    assert (done.code, "error[E0618]" in done.err) == (6, True), done.err


@pytest.mark.parametrize("name", ["../other/night", "/{root}/other", "..", "a/b", "."])
def test_a_name_that_is_a_path(desk: Any, docs: Path, name: str) -> None:
    other = desk.root / "other"
    other.mkdir()
    shutil.copy(desk.root / "prompts.jsonl", other)
    desk.write(name="night")
    assert desk.run("run", "job.yaml").code == 0
    shutil.move(desk.root / ".promptmill" / "night", other / "night")
    desk.write(name=name.format(root=desk.root))
    for command in (["status"], ["export"], ["run"]):
        done = desk.run(command[0], "job.yaml")
        assert (done.code, "error[E0205]" in done.err, done.out) == (2, True, ""), (command, done)


def test_a_job_file_whose_stem_is_the_folder_above(desk: Any, docs: Path) -> None:
    desk.write()
    (desk.root / "...yaml").write_bytes(desk.job.read_bytes())
    for command in ("check", "run", "status", "export"):
        done = desk.run(command, "...yaml")
        assert (done.code, "error[E0205]" in done.err) == (2, True), (command, done)
    assert not (desk.root / "run").exists()


@pytest.mark.parametrize("command", ["status", "export"])
@pytest.mark.parametrize("at", [".promptmill/night", ".promptmill/night/run", ".promptmill/night/run/journal.db"])
def test_looking_follows_no_link(desk: Any, docs: Path, command: str, at: str) -> None:
    assert desk.run("run", "job.yaml").code == 0
    elsewhere = desk.root / "elsewhere"
    shutil.move(desk.root / at, elsewhere)
    link(desk.root / at, elsewhere)
    done = desk.run(command, "job.yaml")
    assert (done.code, "error[E0618]" in done.err, done.out) == (6, True, ""), done.err


@pytest.mark.parametrize(
    "use", [{"use": "jsonl"}, {"use": "csv"}, {"use": "sqlite"}, {"use": "duckdb"}], ids=lambda one: one["use"]
)
@pytest.mark.parametrize("to", ["device", "pipe", "folder"])
def test_an_output_that_is_a_link_to_no_file(desk: Any, sim: Any, docs: Path, use: dict[str, str], to: str) -> None:
    target = docs if to == "folder" else Path("/dev/null") if to == "device" else desk.root / "pipe"
    if to == "pipe":
        os.mkfifo(target)
    (desk.root / "out").symlink_to(target)
    desk.write(output=None, sinks=[{**use, "path": "out"}])
    done = desk.run("run", "job.yaml")
    assert done.code == 6, done.err
    assert untouched(docs)
    assert sim.ledger()["requests"] == 0


def test_plugins_that_write_below_the_state_go_through_no_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "kept").write_bytes(CANARY)
    state = tmp_path / ".promptmill" / "job"
    state.mkdir(parents=True)
    link(state / "results", victim)
    link(state / "file", victim / "kept")
    calls: list[Callable[[], object]] = [
        lambda: DurableFile.open(state / "file"),
        lambda: DurableFile.open(state / "results" / "new"),
        lambda: DurableFile.open(state / "results" / ".." / ".." / ".." / "new"),
        lambda: remove(state / "results" / "kept"),
        lambda: rename(state / "results" / "kept", state / "stolen"),
        lambda: make_directory(state / "results" / "inner"),
    ]
    for call in calls:
        with pytest.raises(StorageError) as caught:
            call()
        assert caught.value.code == "E0618"
    assert [path.name for path in victim.iterdir()] == ["kept"]
    assert (victim / "kept").read_bytes() == CANARY


def test_a_schema_of_a_stranger_runs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    Store.open(path).close()
    with sqlite3.connect(path) as planted:
        planted.execute("CREATE VIEW bad AS SELECT load_extension('x')")
    store = Store.open(path)
    with pytest.raises(sqlite3.OperationalError):
        store._connection.execute("SELECT * FROM bad").fetchall()
    store.close()
