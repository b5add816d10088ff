"""The jsonl sink: the contract, and what is in the file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from promptmill import jsontext
from promptmill.errors import StorageError
from promptmill.interfaces import Sink
from promptmill.models import ErrorInfo, Usage
from promptmill.sinks.jsonl import JsonlSink, JsonlSinkOptions
from promptmill.testing import SinkContract, result


class TestJsonlSink(SinkContract):
    options_class = JsonlSinkOptions

    def settings(self) -> Mapping[str, jsontext.JSON]:
        return {"path": "deep/answers.jsonl"}

    @property
    def path(self) -> Path:
        return self.folder / "deep" / "answers.jsonl"

    def rows(self) -> Sequence[tuple[str, str | None]]:
        lines = self.path.read_bytes().split(b"\n")
        assert lines.pop() == b""
        return [(record["id"], record["text"]) for record in map(json.loads, lines)]

    def make_foreign(self) -> bool:
        self.path.parent.mkdir()
        self.path.write_bytes(b"x")
        return True

    def make_unwritable(self) -> Sink:
        (self.folder / "file").write_bytes(b"")
        return JsonlSink(self.folder / "file" / "answers.jsonl")

    def lose(self) -> None:
        self.path.unlink()


async def test_record_is_the_contract(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    async with JsonlSink(path) as sink:
        await sink.start(None)
        await sink.write(
            [
                result(
                    "4",
                    id="17",
                    index=16,
                    finish_reason="stop",
                    provider="fast",
                    model="gpt-5-mini",
                    tier="realtime",
                    attempts=1,
                    latency_s=0.41,
                    usage=Usage(input_tokens=52, cached_tokens=0, output_tokens=80, reasoning_tokens=0),
                    cost_usd=0.000173,
                ),
                result(None, status="failed", error=ErrorInfo(code="bad_request", message="no", http_status=400)),
            ]
        )
        assert await sink.commit() == {"bytes": path.stat().st_size}
    first, second = (json.loads(line) for line in path.read_bytes().strip().split(b"\n"))
    assert list(first) == [
        *("id", "index", "status", "text", "finish_reason", "provider", "model", "tier", "attempts", "latency_s"),
        *("usage", "cost_usd", "error", "meta"),
    ]
    assert first["usage"] == {"input_tokens": 52, "cached_tokens": 0, "output_tokens": 80, "reasoning_tokens": 0}
    assert first["error"] is None
    assert second["text"] is None
    assert second["cost_usd"] is None
    assert second["error"] == {"code": "bad_request", "message": "no", "http_status": 400, "retryable": False}


async def test_foreign_file_is_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_bytes(b"mine\n")
    async with JsonlSink(path) as sink:
        with pytest.raises(StorageError, match="5 bytes") as caught:
            await sink.start(None)
    assert caught.value.code == "E0610"
    assert path.read_bytes() == b"mine\n"


async def test_shorter_file_is_refused_and_not_created(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    async with JsonlSink(path) as sink:
        with pytest.raises(StorageError) as caught:
            await sink.start({"bytes": 3})
    assert caught.value.code == "E0611"
    assert not path.exists()


@pytest.mark.parametrize("position", [{"bytes": "7"}, {"bytes": -1}, {"rows": 3}])
async def test_foreign_position_is_refused(tmp_path: Path, position: dict[str, object]) -> None:
    async with JsonlSink(tmp_path / "answers.jsonl") as sink:
        with pytest.raises(StorageError, match="not of this sink"):
            await sink.start(position)


async def test_torn_line_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    async with JsonlSink(path) as sink:
        await sink.start(None)
        await sink.write([result("a")])
        position = await sink.commit()
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"id":"2","te')
    async with JsonlSink(path) as sink:
        await sink.start(position)
    assert path.read_bytes() == whole
