"""A disk that remembers every operation, so that each moment of a run can be turned into what a crash leaves behind.

The operations are those of ``promptmill.files``. A kill leaves everything that was done. A power cut leaves what was
synced, and of the rest nothing, all, a part, zeros, or some writes without others; names that were not synced may be
missing. The journal's database counts as one atomic, durable operation for each commit: SQLite is tested by others.
"""

from __future__ import annotations

import mmap
import os
import random
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from promptmill import _statepaths as statepaths
from promptmill import files
from promptmill._cursors import CommitOrder
from promptmill._journal import Journal, schema
from promptmill._journal import ballast as ballasts
from promptmill._journal import journal as journals
from promptmill._journal.store import Store
from promptmill._projection import Projection
from promptmill.clock import SystemClock
from promptmill.errors import StorageError
from promptmill.models import Request, Result
from promptmill.sinks.jsonl import JsonlSink
from promptmill.testing.records import request, result

ITEMS = 20
GROUP = 3

PRICE = 0.25
WORST = 1.0
"""USD a call costs, and USD that are set aside for it."""

Op = tuple[Any, ...]


class Crash(BaseException):
    """The process ends here. Not an Exception: nothing may handle it."""


class File(msgspec.Struct):
    synced: bytes = b""
    pending: list[Op] = []

    def latest(self) -> bytes:
        return applied(self.synced, self.pending)


class Folder(msgspec.Struct):
    synced: dict[str, int] = {}
    pending: list[Op] = []

    def latest(self) -> dict[str, int]:
        return named(self.synced, self.pending)


def applied(data: bytes, changes: Sequence[Op]) -> bytes:
    content = bytearray(data)
    for kind, at, new in changes:
        if kind == "truncate":
            del content[at:]
            content.extend(bytes(at - len(content)))
        else:
            content.extend(bytes(max(at - len(content), 0)))
            content[at : at + len(new)] = new
    return bytes(content)


def named(names: dict[str, int], changes: Sequence[Op]) -> dict[str, int]:
    found = dict(names)
    for kind, name, inode in changes:
        if kind == "link":
            found[name] = inode
        else:
            found.pop(name, None)
    return found


class State:
    """What is on the disk after some operations."""

    def __init__(self, ops: Sequence[Op]) -> None:
        self.inodes: dict[int, Any] = {0: Folder()}
        self.images: dict[bytes, bytes] = {}
        for op in ops:
            getattr(self, op[0])(*op[1:])

    def note(self, *_: Any) -> None:
        pass

    def image(self, token: bytes, data: bytes) -> None:
        self.images[token] = data

    def create(self, inode: int, folder: int, name: str, is_folder: bool) -> None:
        self.inodes[inode] = Folder() if is_folder else File()
        self.link(folder, name, inode)

    def kept(self, inode: int, folder: int, name: str, data: bytes) -> None:
        self.inodes[inode] = File(synced=data)
        self.inodes[folder].pending.append(("link", name, inode))
        self.sync(folder)

    def link(self, folder: int, name: str, inode: int) -> None:
        self.inodes[folder].pending.append(("link", name, inode))

    def unlink(self, folder: int, name: str) -> None:
        self.inodes[folder].pending.append(("unlink", name, 0))

    def move(self, folder: int, old: str, new: str, inode: int) -> None:
        self.inodes[folder].pending += [("link", new, inode), ("unlink", old, 0)]

    def write(self, inode: int, data: bytes) -> None:
        self.inodes[inode].pending.append(("write", len(self.inodes[inode].latest()), data))

    def store(self, inode: int, at: int, data: bytes) -> None:
        self.inodes[inode].pending.append(("write", at, data))

    def truncate(self, inode: int, length: int) -> None:
        self.inodes[inode].pending.append(("truncate", length, b""))

    def sync(self, inode: int) -> None:
        self.inodes[inode].synced = self.inodes[inode].latest()
        self.inodes[inode].pending = []

    def restore(self, root: Path, chance: random.Random | None) -> None:
        """Write it to ``root``: after a kill, or, given a ``chance``, after a power cut."""
        self._restore(0, root, chance)

    def _restore(self, inode: int, path: Path, chance: random.Random | None) -> None:
        found = self.inodes[inode]
        if isinstance(found, File):
            path.write_bytes(found.latest() if chance is None else what_is_left(found, chance))
            return
        path.mkdir(exist_ok=True)
        names = found.latest() if chance is None else names_left(found, chance)
        for name, child in names.items():
            self._restore(child, path / name, chance)


def names_left(folder: Folder, chance: random.Random) -> dict[str, int]:
    """A journalling file system keeps the order of names: some first changes are there, the rest are not."""
    pending = folder.pending
    kept = chance.choice([0, len(pending), chance.randint(0, len(pending))])
    if 0 < kept < len(pending) and pending[kept - 1][0] == "link" and pending[kept][0] == "unlink":
        kept -= 1  # a rename is one change
    return named(folder.synced, pending[:kept])


def what_is_left(file: File, chance: random.Random) -> bytes:
    pending = file.pending
    how = chance.choice(["none", "all", "part", "zeros", "some"])
    if how == "none" or not pending:
        return file.synced
    if how == "all":
        return file.latest()
    if how == "some":
        return applied(file.synced, [change for change in pending if chance.random() < 0.5])
    kept = chance.randint(1, len(pending))
    kind, at, data = pending[kept - 1]
    torn = data[: chance.randint(0, len(data))]
    rest = bytes(len(data) - len(torn)) if how == "zeros" else b""
    return applied(file.synced, [*pending[: kept - 1], (kind, at, torn + rest)])


class Disk:
    """Stands in for ``os`` in ``promptmill.files`` and what it opens paths with: does what is asked for below ``root``
    and writes it down.

    ``fault(number, name)`` is asked before each operation: it may raise, or return how many bytes of a write to take.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ops: list[Op] = []
        self.fault: Callable[[int, str], int | None] = lambda number, name: None
        self.count = 0
        self._inodes: dict[Path, int] = {root: 0}
        self._open: dict[int, int] = {}
        self._paths: dict[int, Path] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def adopt(self) -> None:
        """Take what is in ``root`` for synced."""
        for path in sorted(self.root.rglob("*")):
            self._create(path, path.is_dir())
            if path.is_file() and (data := path.read_bytes()):
                self.ops.append(("write", self._inodes[path], data))
        for inode in self._inodes.values():
            self.ops.append(("sync", inode))

    def note(self, *what: Any) -> None:
        self.ops.append(("note", *what))

    def keep(self, path: Path, token: bytes) -> None:
        """Create a file in one durable step."""
        path.write_bytes(token)
        self._create(path, False)
        *_, folder, name, _ = self.ops.pop()
        self.ops.append(("kept", self._inodes[path], folder, name, token))

    def before(self, name: str) -> int | None:
        self.count += 1
        return self.fault(self.count, name)

    def open(self, name: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        path = self._path(name, dir_fd)
        if flags & os.O_CREAT and not path.exists():
            self.before("open")
            self._create(path, False)
        descriptor = os.open(name, flags, mode, dir_fd=dir_fd)
        self._paths[descriptor] = path
        if path in self._inodes:  # not so above the root
            self._open[descriptor] = self._inodes[path]
        return descriptor

    def close(self, descriptor: int) -> None:
        self._open.pop(descriptor, None)
        self._paths.pop(descriptor, None)
        os.close(descriptor)

    def write(self, descriptor: int, data: Any) -> int:
        taken = self.before("write")
        data = bytes(data)[: len(data) if taken is None else taken]
        self.ops.append(("write", self._open[descriptor], data))
        return os.write(descriptor, data)

    def mmap(self, descriptor: int, length: int) -> Mapping:
        """Stands in for ``mmap`` as well."""
        return Mapping(self, self._open[descriptor], mmap.mmap(descriptor, length))

    def ftruncate(self, descriptor: int, length: int) -> None:
        self.before("truncate")
        self.ops.append(("truncate", self._open[descriptor], length))
        os.ftruncate(descriptor, length)

    def fsync(self, descriptor: int) -> None:
        self.before("fsync")
        self.ops.append(("sync", self._open[descriptor]))

    def mkdir(self, name: str, mode: int, *, dir_fd: int | None) -> None:
        self.before("mkdir")
        os.mkdir(name, mode, dir_fd=dir_fd)
        self._create(self._path(name, dir_fd), True)

    def replace(self, old: str, new: str, *, src_dir_fd: int | None, dst_dir_fd: int | None) -> None:
        self.before("rename")
        os.replace(old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        source, target = self._path(old, src_dir_fd), self._path(new, dst_dir_fd)
        moved = {path: inode for path, inode in self._inodes.items() if path == source or source in path.parents}
        for path, inode in moved.items():
            del self._inodes[path]
            self._inodes[target / path.relative_to(source)] = inode
        folder = self._inodes[source.parent]
        self.ops.append(("move", folder, source.name, target.name, self._inodes[target]))

    def unlink(self, name: str, *, dir_fd: int | None) -> None:
        self.before("unlink")
        os.unlink(name, dir_fd=dir_fd)
        path = self._path(name, dir_fd)
        del self._inodes[path]
        self.ops.append(("unlink", self._inodes[path.parent], path.name))

    def _path(self, name: Any, folder: int | None) -> Path:
        return Path(name) if folder is None else self._paths[folder] / name

    def _create(self, path: Path, is_folder: bool) -> None:
        inode = 1 + max((op[1] for op in self.ops if op[0] in ("create", "kept")), default=0)
        self._inodes[path] = inode
        self.ops.append(("create", inode, self._inodes[path.parent], path.name, is_folder))


class Mapping:
    """A file in memory: what is stored there is on the disk as if it were written."""

    def __init__(self, disk: Disk, inode: int, memory: mmap.mmap) -> None:
        self._disk = disk
        self._inode = inode
        self._memory = memory

    def __setitem__(self, place: slice, data: bytes) -> None:
        self._disk.before("store")
        self._disk.ops.append(("store", self._inode, place.start, data))
        self._memory[place] = data

    def close(self) -> None:
        self._memory.close()


class Life:
    """One process at one run: what the engine and the sinks do, without the waiting."""

    def __init__(self, root: Path, images: dict[bytes, bytes]) -> None:
        self.root = root
        self.disk = Disk(root)
        self.disk.adopt()
        self.disk.ops += [("image", token, image) for token, image in images.items()]
        self.born = len(self.disk.ops)
        self.images = images
        self.paid: list[int] = []
        self.billed_before = 0.0
        """What the calls of the lives before this one cost."""
        self.worst_before = 0.0
        """What was set aside for calls nobody knows the end of."""
        self.spent_before = 0.0

    async def run(self, *, fresh: bool = False) -> None:
        with self._installed():
            async with Journal(self.root / "state", SystemClock(), fresh=fresh) as journal:
                sink = JsonlSink(self.root / "out.jsonl")
                if fresh:
                    await sink.set_aside()
                projection = Projection(sink, "jsonl", journal, SystemClock(), CommitOrder(journal))
                try:
                    await projection.open()
                    await self._mill(journal, projection)
                finally:
                    await projection.aclose()

    async def _mill(self, journal: Journal, projection: Projection) -> None:
        self.spent_before = journal.spent_before.get("run", 0.0)
        spent = self.spent_before
        done = set(await journal.ask(lambda store: list(store.finished_indexes())))
        left = [index for index in range(ITEMS) if index not in done]
        groups = [left[at : at + GROUP] for at in range(0, len(left), GROUP)]
        # While one group is committed, the answers of the next have come already.
        for number, (arriving, ready) in enumerate(zip([*groups, []], [[], *groups], strict=True)):
            for index in arriving:
                self.disk.note("asked", index)
                journal.sending(asked(index), 1, "a", WORST, ["run"])
                self.paid.append(index)
                self.disk.note("billed", index)
                journal.received(asked(index), answered(index), b"raw")
                self.disk.note("received", index)
                spent += PRICE
                journal.spent({"run": spent})
                self.disk.note("told", index)
            results = [answered(index) for index in ready]
            await journal.write(results)
            for index in ready:
                self.disk.note("stored", index)
            projection.offer(results, journal.last_seq)
            await projection._catch_up(closing=False)
            await projection._commit_if(number % 2 == 1)
        await projection._catch_up(closing=True)

    @contextmanager
    def _installed(self) -> Iterator[None]:
        life = self

        class ModelStore(Store):
            """The real tables in memory; each commit is kept as one image."""

            @classmethod
            def open(cls, path: Path) -> ModelStore:
                connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
                if path.exists():
                    connection.deserialize(life.images[path.read_bytes()])
                schema.prepare(connection, str(path))
                store = cls(path, connection, writer=True)
                token = path.read_bytes() if path.exists() else f"image {len(life.images)}".encode()
                store._keep(token)
                if not path.exists():
                    life.disk.keep(path, token)
                return store

            @contextmanager
            def _transaction(self) -> Iterator[sqlite3.Connection]:
                life.disk.before("commit")
                with super()._transaction() as run:
                    yield run
                self._keep(self.path.read_bytes())

            def _keep(self, token: bytes) -> None:
                image = self._connection.serialize()
                life.images[token] = image
                life.disk.ops.append(("image", token, image))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(files, "os", self.disk)
            patch.setattr(statepaths, "os", self.disk)
            patch.setattr(files, "mmap", self.disk)
            patch.setattr(files, "GROWTH_BYTES", 200)
            patch.setattr(journals, "Store", ModelStore)
            patch.setattr(journals, "TAIL_BYTES", 1500)
            patch.setattr(ballasts, "BALLAST_BYTES", 1)
            yield


def asked(index: int) -> Request:
    return request(f"prompt {index}", id=f"id-{index}", index=index)


def answered(index: int) -> Result:
    return result(f"answer {index} " + "x" * (17 * index % 60), id=f"id-{index}", index=index)


class Lab:
    """Makes lives, and new ones out of what a crash left of them."""

    items = ITEMS

    def __init__(self, root: Path) -> None:
        self._root = root
        self._count = 0

    def new(self) -> Life:
        return Life(self._folder(), {})

    def after(self, life: Life, cut: int, chance: random.Random | None = None) -> Life:
        """The next life when the first ``cut`` operations were done before a kill, or (``chance``) a power cut."""
        state = State(life.disk.ops[:cut])
        folder = self._folder()
        state.restore(folder, chance)
        after = Life(folder, dict(state.images))
        # A power cut may take the tail, or its end, and with it what is known of calls since the last commit.
        billed, told = ("billed", "told") if chance is None else ("stored", "stored")
        after.billed_before = life.billed_before + PRICE * len(self.noted(life, billed, cut))
        unknown = self.noted(life, "asked", cut) - self.noted(life, told, cut)
        after.worst_before = life.worst_before + WORST * len(unknown)
        if chance is not None:
            # It may also take the word of what a call came to and leave a total with that in it: both count then.
            after.worst_before += PRICE * len(self.noted(life, "told", cut) - self.noted(life, "stored", cut))
        return after

    def noted(self, life: Life, what: str, cut: int) -> set[int]:
        return {op[2] for op in life.disk.ops[:cut] if op[0] == "note" and op[1] == what}

    async def violations(
        self, life: Life, cut: int, chance: random.Random | None = None, earlier: frozenset[int] = frozenset()
    ) -> list[str]:
        """Run on from a crash and say which promises are broken. ``earlier``: what lives before ``life`` had paid."""
        after = self.after(life, cut, chance)
        try:
            await after.run()
        except Exception as error:
            return [f"cannot go on: {type(error).__name__}: {error}"]
        # A power cut may take what was received and not yet synced; a kill may not.
        safe = earlier | self.noted(life, "received" if chance is None else "stored", cut)
        broken = [f"paid again: {index}" for index in after.paid if index in safe]
        return broken + self.wrong_spending(after) + self.wrong_output(after)

    def wrong_spending(self, after: Life) -> list[str]:
        """No call is forgotten, and the worst is counted once for each that nobody knows the end of."""
        least = after.billed_before
        most = least + after.worst_before
        if after.spent_before > most:
            return [f"too much spent: {after.spent_before}, not {most} at most"]
        return [] if after.spent_before >= least else [f"spent {after.spent_before}, not {least} at least"]

    def wrong_output(self, life: Life) -> list[str]:
        lines = (life.root / "out.jsonl").read_bytes().split(b"\n")
        try:
            ids = sorted(msgspec.json.decode(line)["index"] for line in lines[:-1])
        except msgspec.DecodeError as error:
            return [f"the sink has a line that is no record: {error}"]
        return [f"the sink has {ids}"] if lines[-1] or ids != list(range(ITEMS)) else []

    def crash_at(self, number: int) -> Callable[[int, str], None]:
        def fault(count: int, name: str) -> None:
            if count >= number:
                raise Crash(name)

        return fault

    def fail_at(self, number: int, code: int, *, once: bool) -> Callable[[int, str], None]:
        """The disk fails at one operation, or from there on; SQLite's part of it then, too."""

        def fault(count: int, name: str) -> None:
            if count == number or (count > number and not once):
                if name == "commit":
                    raise StorageError(os.strerror(code), code="E0640")
                if name == "store":
                    return  # the room is there already: memory does not fail
                raise OSError(code, os.strerror(code))

        return fault

    def short_at(self, number: int) -> Callable[[int, str], int | None]:
        return lambda count, name: 1 if count == number and name == "write" else None

    crash = Crash

    def _folder(self) -> Path:
        self._count += 1
        folder = self._root / str(self._count)
        folder.mkdir()
        return folder


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)
