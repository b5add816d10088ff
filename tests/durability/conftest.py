"""A run of the real program against a server with books of its own, and the questions asked of both after a crash."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from promptmill._journal import DATABASE, ShardRecord, Store
from promptmill.errors import StorageError

PROGRAM = [sys.executable, "-c", "from promptmill.cli.main import main; main()"]
AT_STEP = [sys.executable, str(Path(__file__).with_name("at_step.py"))]

SETTLE = {"promptmill._batching.desk:SETTLE_S": 0.2}
"""Where these tests differ from life: the simulator's lists lag behind by so many looks, not by seconds."""


class Books:
    """A simulated provider in a process of its own: it survives whatever happens to its clients."""

    def __init__(self, options: Sequence[str]) -> None:
        command = [*PROGRAM, "simulate", "--port", "0", *options]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self._process.stdout is not None
        self.base_url = self._process.stdout.readline().strip()
        self._root = self.base_url.removesuffix("/v1")

    def reset(self) -> None:
        self._ask("/_sim/reset", method="POST")

    def ledger(self, entries: int = 0) -> dict[str, Any]:
        return dict(self._ask(f"/_sim/ledger?entries={entries}"))

    def batches(self, tags: str) -> list[dict[str, Any]]:
        """All there are whose shard has a tag that begins with ``tags``."""
        found = self._list("/v1/batches?limit=100")
        return [one for one in found if (one["metadata"] or {}).get("promptmill_tag", "").startswith(tags)]

    def files(self, names: str) -> list[dict[str, Any]]:
        """All there are whose name begins with ``names``."""
        return [one for one in self._list("/v1/files?limit=10000") if one["filename"].startswith(names)]

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _list(self, path: str) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = []
        page: dict[str, Any] = {"has_more": True}
        while page["has_more"]:
            try:
                page = self._ask(f"{path}&after={entries[-1]['id']}" if entries else path)
            except ConnectionError:  # a fault that is meant for the program
                continue
            entries += page["data"]
        return entries

    def _ask(self, path: str, method: str = "GET") -> Any:
        request = urllib.request.Request(self._root + path, method=method)
        with urllib.request.urlopen(request, timeout=30) as reply:
            return json.loads(reply.read() or b"{}")


class World:
    """A folder with a job in it: two file sinks, ``rows`` prompts, at most ``concurrency`` calls at once."""

    def __init__(self, root: Path, books: Books, *, rows: int, concurrency: int, order: str = "completion") -> None:
        self.root = root
        self.books = books
        self.rows = rows
        self.concurrency = concurrency
        self.order = order
        self.state = root / ".promptmill" / "job"
        self.outputs = [root / "answers.jsonl", root / "answers.csv"]
        self._committed: dict[str, bytes] = {}
        (root / "prompts.jsonl").write_text("".join(json.dumps(self.row(at)) + "\n" for at in range(rows)))
        self.write_job()
        books.reset()

    def row(self, at: int) -> dict[str, Any]:
        """One row of the input."""
        return {"id": f"r{at}", "prompt": f"question {at} {'x' * (at % 50)}"}

    def write_job(self, **changes: Any) -> None:
        """Write the job file. JSON is YAML."""
        provider = {"use": "openai-chat", "model": "m", "base_url": self.books.base_url, "timeout": "30s"}
        job = {
            "version": 1,
            "input": {"path": "prompts.jsonl"},
            "providers": {"a": {**provider, "max_concurrency": self.concurrency}},
            "retry": {"use": "exponential", "base": "20ms", "cap": "50ms", "attempts": 20},
            "order": self.order,
            "sinks": [{"use": "jsonl", "path": "answers.jsonl"}, {"use": "csv", "path": "answers.csv"}],
        }
        (self.root / "job.yaml").write_text(json.dumps({**job, **changes}))

    def start(self, *options: str, prefix: Sequence[str] = (), **settings: Any) -> subprocess.Popen[str]:
        command = [*prefix, *PROGRAM, "run", "job.yaml", "--json", "-q", *options]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.root, stdout=pipe, stderr=pipe, text=True, **settings)

    def run(self, *options: str, **settings: Any) -> tuple[int, str, dict[str, Any]]:
        """Run to the end: the exit code, stderr, and the summary when there is one."""
        process = self.start(*options, **settings)
        out, err = process.communicate(timeout=120)
        return process.returncode, err, json.loads(out) if out.strip() else {}

    def records(self) -> list[dict[str, Any]]:
        data = self.outputs[0].read_bytes()
        assert not data or data.endswith(b"\n"), "the last line is torn"
        return [json.loads(line) for line in data.split(b"\n")[:-1]]

    def lines(self) -> int:
        """Lines in the first output, whole or not, as of now."""
        return self.outputs[0].read_bytes().count(b"\n") if self.outputs[0].exists() else 0

    def check_kept(self) -> None:
        """What a sink's position covers never changes and never goes away, also not in an unfinished run."""
        for path, length in self._positions().items():
            data = (self.root / path).read_bytes() if (self.root / path).exists() else b""
            assert len(data) >= length, f"{path} has lost committed bytes"
            before = self._committed.get(path, b"")
            assert data.startswith(before), f"{path} has changed committed bytes"
            self._committed[path] = data[:length]

    def check_finished(self, kills: int) -> None:
        """Every promise at once, after the run has come to its end."""
        wanted = sorted(f"r{at}" for at in range(self.rows))
        records = self.records()
        assert sorted(record["id"] for record in records) == wanted
        rows = list(csv.DictReader(io.StringIO(self.outputs[1].read_bytes().decode(), newline="")))
        assert sorted(row["id"] for row in rows) == wanted
        assert self.outputs[1].read_bytes().count(b"\n") == self.rows + 1
        if self.order == "input":
            assert [record["index"] for record in records] == list(range(self.rows))
            assert [int(row["index"]) for row in rows] == list(range(self.rows))
        books = self.books.ledger(entries=10**6)
        assert books["paid_prompts"] == self.rows
        assert books["paid_again"] <= kills * self.concurrency, (books["paid_again"], kills)
        self._check_usage(records, books)
        self.check_kept()
        self._check_no_more_calls(books["requests"])

    def _check_usage(self, records: list[dict[str, Any]], books: dict[str, Any]) -> None:
        """The same question costs the same each time, so what was paid twice is counted once here."""
        paid = {one["prompt"]: one for one in books["entries"] if one["outcome"] == "answered"}
        for key in ("input_tokens", "output_tokens"):
            assert sum(record["usage"][key] for record in records) == sum(one[key] for one in paid.values())

    def _check_no_more_calls(self, requests: int) -> None:
        before = [path.read_bytes() for path in self.outputs]
        code, err, summary = self.run()
        assert code == 0, err
        assert summary["succeeded"] == self.rows
        assert self.books.ledger()["requests"] == requests
        assert [path.read_bytes() for path in self.outputs] == before

    def _positions(self) -> dict[str, int]:
        """Committed bytes of each output."""
        if not (self.state / DATABASE).exists():
            return {}
        kinds = {"jsonl": "answers.jsonl", "csv": "answers.csv"}
        with self.journal() as store:
            return {kinds[sink.name.split("(")[0]]: sink.position.get("bytes", 0) for sink in store.sinks()}

    @contextmanager
    def journal(self) -> Iterator[Store]:
        """The journal, looked at in a copy, so that it stays as the kill left it."""
        copy = self.root / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree((self.state / DATABASE).parent, copy)
        try:
            store = Store.open(copy / Path(DATABASE).name)
        except StorageError as error:  # killed before the tables were there
            raise AssertionError(f"the journal cannot be opened after a kill: {error.message}") from error
        yield store
        store.close()


class HybridWorld(World):
    """A job whose every fourth row goes one by one, and the others in batches of 6."""

    def __init__(
        self, root: Path, books: Books, *, batch: int = 6, later: Mapping[str, Any] | None = None, **rest: Any
    ):
        self.batch = batch
        self.later = dict(later or {})
        super().__init__(root, books, **rest)

    def write_job(self, **changes: Any) -> None:
        now = {"use": "openai-chat", "model": "m", "base_url": self.books.base_url, "timeout": "30s"}
        later = {**now, "use": "openai-batch", "poll_interval": "50ms", "linger": "50ms", "batch_requests": 6}
        job = {
            "input": {"path": "prompts.jsonl", "tags": ["{{ lane }}"]},
            "providers": {"now": {**now, "max_concurrency": self.concurrency}, "later": {**later, **self.later}},
            "routes": [{"when": {"tag": "urgent"}, "to": "now"}, {"to": "later"}],
        }
        super().write_job(**{**job, **changes})

    def row(self, at: int) -> dict[str, Any]:
        return {**super().row(at), "lane": "bulk" if at % 4 else "urgent"}

    def start(self, *options: str, orders: Mapping[str, Any] | None = None, **settings: Any) -> subprocess.Popen[str]:
        """Start the program, with the ``orders`` of ``at_step.py``."""
        orders = {**(orders or {}), "set": {**SETTLE, **(orders or {}).get("set", {})}}
        command = [*AT_STEP, json.dumps(orders), "run", "job.yaml", "--json", "-q", *options]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.root, stdout=pipe, stderr=pipe, text=True, **settings)

    def shards(self) -> list[ShardRecord]:
        with self.journal() as store:
            return store.shards()

    def stored(self) -> int:
        """Rows that have their result in the journal's database."""
        with self.journal() as store:
            return sum(1 for _ in store.finished())

    def tags(self) -> str:
        """What the tags of all shards of the run begin with."""
        with self.journal() as store:
            return str(store.meta("run_id"))

    def live_batches(self) -> list[str]:
        """The tags of all batches that the provider has and that did not fail as a whole."""
        batches = self.books.batches(self.tags())
        return sorted(one["metadata"]["promptmill_tag"] for one in batches if one["status"] != "failed")

    def check_finished(self, kills: int) -> None:
        super().check_finished(kills)
        self.check_batches()

    def check_batches(self) -> None:
        """One batch for each shard, all taken in, nothing paid twice in them, and nothing of them left lying about."""
        shards, live = self.shards(), self.live_batches()
        assert {shard.state for shard in shards} <= {"collected", "dropped"}
        assert live == sorted(shard.tag for shard in shards if shard.state == "collected")
        assert {shard.handle for shard in shards if shard.is_open} == set()
        assert sorted((self.state / "run" / "shards").rglob("*")) == []
        paid = [one for one in self.books.ledger(entries=10**6)["entries"] if one["outcome"] == "answered"]
        times = Counter(one["prompt"] for one in paid)
        assert [one["custom_id"] for one in paid if one["batch"] and times[one["prompt"]] > 1] == []

    def check_uploads(self) -> None:
        """Each shard was uploaded once."""
        files = Counter(one["filename"] for one in self.books.files(self.tags()))
        assert files == {f"{shard.tag}.jsonl": 1 for shard in self.shards()}


@pytest.fixture(scope="module")
def books(request: pytest.FixtureRequest) -> Iterator[Books]:
    """A server whose every 25th answer is an error, with answers after 5 to 25 ms."""
    served = Books(getattr(request, "param", ["--latency", "5ms..25ms", "--fault", "status=500,every=25"]))
    yield served
    served.close()


@pytest.fixture
def make_world(tmp_path: Path, books: Books) -> Any:
    """``make_world(rows=..., concurrency=..., order=...)``: each in a folder of its own, with new books."""
    return _maker(World, tmp_path, books)


@pytest.fixture
def make_hybrid(tmp_path: Path, books: Books) -> Any:
    """The same with :class:`HybridWorld`, which also takes ``later``, options of its batch provider."""
    return _maker(HybridWorld, tmp_path, books)


def _maker(kind: type[World], tmp_path: Path, books: Books) -> Any:
    count = 0

    def make(**options: Any) -> World:
        nonlocal count
        count += 1
        root = tmp_path / str(count)
        root.mkdir()
        return kind(root, books, **options)

    return make


@pytest.fixture(autouse=True)
def no_foreign_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or (name.startswith("PROMPTMILL_") and name != "PROMPTMILL_KILLS"):
            monkeypatch.delenv(name)
