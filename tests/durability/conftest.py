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
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from promptmill._journal import DATABASE, Store
from promptmill.errors import StorageError

PROGRAM = [sys.executable, "-c", "from promptmill.cli.main import main; main()"]


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

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()

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
        prompts = ({"id": f"r{at}", "prompt": f"question {at} {'x' * (at % 50)}"} for at in range(rows))
        (root / "prompts.jsonl").write_text("".join(json.dumps(one) + "\n" for one in prompts))
        self.write_job()
        books.reset()

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
        """Committed bytes of each output. The journal is looked at in a copy, so that it stays as the kill left it."""
        if not (self.state / DATABASE).exists():
            return {}
        copy = self.root / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree((self.state / DATABASE).parent, copy)
        try:
            store = Store.open(copy / Path(DATABASE).name)
        except StorageError as error:  # killed before the tables were there
            raise AssertionError(f"the journal cannot be opened after a kill: {error.message}") from error
        kinds = {"jsonl": "answers.jsonl", "csv": "answers.csv"}
        found = {kinds[sink.name.split("(")[0]]: sink.position.get("bytes", 0) for sink in store.sinks()}
        store.close()
        return found


@pytest.fixture(scope="module")
def books(request: pytest.FixtureRequest) -> Iterator[Books]:
    """A server whose every 25th answer is an error, with answers after 5 to 25 ms."""
    served = Books(getattr(request, "param", ["--latency", "5ms..25ms", "--fault", "status=500,every=25"]))
    yield served
    served.close()


@pytest.fixture
def make_world(tmp_path: Path, books: Books) -> Any:
    """``make_world(rows=..., concurrency=..., order=...)``: each in a folder of its own, with new books."""
    count = 0

    def make(**options: Any) -> World:
        nonlocal count
        count += 1
        root = tmp_path / str(count)
        root.mkdir()
        return World(root, books, **options)

    return make


@pytest.fixture(autouse=True)
def no_foreign_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or (name.startswith("PROMPTMILL_") and name != "PROMPTMILL_KILLS"):
            monkeypatch.delenv(name)
