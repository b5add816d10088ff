"""Shards on disk: what goes in comes out, by number, and is there after a power cut or not at all."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptmill import jsontext
from promptmill._batching import Item, ShardItems, ShardWriter, new_tag, wire_id
from promptmill._batching.shards import BUFFER_BYTES, items_path, remove_shard, wire_path
from promptmill.batch import MAX_WIRE_ID, BatchLimits
from promptmill.errors import StorageError
from promptmill.models import Message, Request

ROOMY = BatchLimits(requests=1000, bytes=10_000_000)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


def item(number: int, text: str = "Hello") -> Item:
    return Item(Request(id=f"row {number}", index=number, messages=(Message("user", text),)), ("bulk", "fast"), number)


def writer(directory: Path, limits: BatchLimits = ROOMY, tag: str = "tag") -> ShardWriter:
    return ShardWriter(directory, tag, limits, operation="chat", model="gpt-x")


@given(st.lists(TEXTS, max_size=30))
def test_requests_come_back_by_number_in_any_order(texts: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        shard = writer(directory)
        lines = [jsontext.encode({"custom_id": wire_id("tag", at), "text": text}) for at, text in enumerate(texts)]
        for at, (text, line) in enumerate(zip(texts, lines, strict=True)):
            assert shard.next_wire_id == wire_id("tag", at)
            shard.add(item(at, text), line, tokens=at)
        sealed = shard.seal()
        assert (sealed.requests, sealed.bytes) == (len(texts), sealed.path.stat().st_size)
        assert sealed.path.read_bytes() == b"".join(line + b"\n" for line in lines)
        assert shard.tokens == sum(range(len(texts)))
        with ShardItems(directory, "tag", len(texts)) as items:
            for at in reversed(range(len(texts))):
                assert items[at] == item(at, texts[at])
            assert list(items) == [item(at, text) for at, text in enumerate(texts)]


def test_a_shard_is_full_by_count_and_by_bytes(tmp_path: Path) -> None:
    by_count = writer(tmp_path, BatchLimits(requests=2, bytes=1000), "count")
    for at in range(2):
        assert by_count.has_room(b"{}")
        by_count.add(item(at), b"{}", 1)
    assert not by_count.has_room(b"{}")
    with pytest.raises(ValueError, match="full"):
        by_count.add(item(2), b"{}", 1)
    by_bytes = writer(tmp_path, BatchLimits(requests=100, bytes=10), "bytes")
    by_bytes.add(item(0), b"12345", 1)
    assert by_bytes.has_room(b"123")
    assert not by_bytes.has_room(b"1234")


def test_a_line_larger_than_the_limit_goes_alone(tmp_path: Path) -> None:
    shard = writer(tmp_path, BatchLimits(requests=100, bytes=10))
    shard.add(item(0), b"x" * 50, 1)
    assert not shard.has_room(b"")
    assert shard.seal().bytes == 51


@pytest.mark.parametrize("line", [b"a\nb", b"a\r", b"\n"])
def test_a_line_break_inside_a_line_is_refused(tmp_path: Path, line: bytes) -> None:
    shard = writer(tmp_path)
    with pytest.raises(ValueError, match="line break"):
        shard.add(item(0), line, 1)
    assert shard.seal().requests == 0


def test_building_keeps_no_more_than_the_buffers_in_memory(tmp_path: Path) -> None:
    shard = writer(tmp_path)
    line = b"x" * 10_000
    for at in range(200):
        shard.add(item(at), line, 1)
        assert shard.bytes - wire_path(tmp_path, "tag").stat().st_size < BUFFER_BYTES + len(line)
    assert shard.seal().bytes == 200 * 10_001


def cut(directory: Path) -> None:
    path = items_path(directory, "tag")
    path.write_bytes(path.read_bytes()[:-1])


def lose_a_line(directory: Path) -> None:
    path = items_path(directory, "tag")
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def delete(directory: Path) -> None:
    items_path(directory, "tag").unlink()


@pytest.mark.parametrize("harm", [cut, lose_a_line, delete])
def test_damaged_requests_are_noticed_on_opening(tmp_path: Path, harm: object) -> None:
    shard = writer(tmp_path)
    for at in range(3):
        shard.add(item(at), b"{}", 1)
    shard.seal()
    assert callable(harm)
    harm(tmp_path)
    with pytest.raises(StorageError) as caught, ShardItems(tmp_path, "tag", 3):
        pass
    assert caught.value.code == "E0647"


def test_a_request_that_makes_no_sense_is_noticed_when_it_is_read(tmp_path: Path) -> None:
    shard = writer(tmp_path)
    for at in range(2):
        shard.add(item(at), b"{}", 1)
    shard.seal()
    path = items_path(tmp_path, "tag")
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + b"\xff" + second[1:])
    with ShardItems(tmp_path, "tag", 2) as items:
        assert items[0] == item(0)
        with pytest.raises(StorageError) as caught:
            items[1]
    assert caught.value.code == "E0647"


@pytest.mark.parametrize("number", [-1, 1, 99])
def test_there_is_no_request_outside(tmp_path: Path, number: int) -> None:
    shard = writer(tmp_path)
    shard.add(item(0), b"{}", 1)
    shard.seal()
    with ShardItems(tmp_path, "tag", 1) as items, pytest.raises(IndexError):
        items[number]


def test_a_dropped_shard_leaves_nothing(tmp_path: Path) -> None:
    shard = writer(tmp_path)
    shard.add(item(0), b"{}", 1)
    shard.drop()
    assert list(tmp_path.iterdir()) == []
    shard = writer(tmp_path)
    shard.add(item(0), b"{}", 1)
    shard.seal()
    remove_shard(tmp_path, "tag")
    remove_shard(tmp_path, "tag")
    assert list(tmp_path.iterdir()) == []


def test_ids_are_legal_everywhere_and_never_twice() -> None:
    tags = {new_tag("20261123-024436-abcdef") for _ in range(500)}
    assert len(tags) == 500
    for tag in tags:
        id_ = wire_id(tag, 4_294_967_295)
        assert len(id_) <= MAX_WIRE_ID
        assert id_.replace("-", "").replace("_", "").isalnum()
        assert id_.isascii()
    with pytest.raises(ValueError, match="too long"):
        new_tag("x" * 60)
