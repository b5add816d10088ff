"""The tail: whole frames come back, torn ones and what a file system makes up do not."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from promptmill._journal import tail as tails
from promptmill._journal.tail import RECEIVED, SENT, Tail, frames_of, tails_in
from promptmill.errors import StorageError
from promptmill.files import MappedFile

FRAMES = [(SENT, b"a"), (RECEIVED, b"x" * 300), (SENT, b"\x00\x00"), (RECEIVED, bytes(range(256)))]


def written(directory: Path) -> Tail:
    tail = Tail(directory, epoch=3)
    for kind, payload in FRAMES:
        tail.append(kind, payload)
    return tail


def test_frames_come_back(tmp_path: Path) -> None:
    tail = written(tmp_path)
    assert list(frames_of(tail.path)) == FRAMES
    size = tail.size()
    tail.close()
    assert size == tail.path.stat().st_size


def test_cut_anywhere_only_whole_frames_come_back(tmp_path: Path) -> None:
    tail = written(tmp_path)
    tail.close()
    data = tail.path.read_bytes()
    for length in range(len(data) + 1):
        tail.path.write_bytes(data[:length])
        found = list(frames_of(tail.path))
        assert found == FRAMES[: len(found)]
        assert len(found) < len(FRAMES) or length == len(data)


def test_zeros_are_not_frames(tmp_path: Path) -> None:
    tail = written(tmp_path)
    tail.close()
    data = tail.path.read_bytes()
    tail.path.write_bytes(data + bytes(4096))
    assert list(frames_of(tail.path)) == FRAMES
    tail.path.write_bytes(bytes(4096))
    assert list(frames_of(tail.path)) == []


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    """A kind is not covered by the checksum of its payload: at worst a result counts as sent and is asked again."""
    tail = written(tmp_path)
    tail.close()
    data = tail.path.read_bytes()
    chance = random.Random(7)
    for _ in range(2000):
        at, bit = chance.randrange(len(data)), chance.randrange(8)
        tail.path.write_bytes(data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :])
        payloads = [payload for _, payload in frames_of(tail.path)]
        assert payloads == [payload for _, payload in FRAMES[: len(payloads)]]


def test_an_absurd_length_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "tail-1-1"
    path.write_bytes(tails._HEADER.pack(tails._MAGIC, SENT, 2**31, 0) + b"abc")
    assert list(frames_of(path)) == []


def test_renewing_keeps_what_is_needed_and_drops_the_old(tmp_path: Path) -> None:
    old = written(tmp_path)
    new = old.renewed(iter(FRAMES[1:2]))
    assert tails_in(tmp_path) == [new.path]
    new.append(*FRAMES[0])
    assert list(frames_of(new.path)) == [FRAMES[1], FRAMES[0]]
    new.close()


def test_renewing_without_room_leaves_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = written(tmp_path)

    def refuse(self: MappedFile, data: bytes) -> None:
        raise StorageError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(MappedFile, "write", refuse)
        with pytest.raises(StorageError, match="no room"):
            old.renewed(iter(FRAMES))
    old.append(SENT, b"more")
    assert tails_in(tmp_path) == [old.path]
    assert list(frames_of(old.path)) == [*FRAMES, (SENT, b"more")]
    old.close()


def test_tails_are_read_oldest_first(tmp_path: Path) -> None:
    for epoch, number in ((10, 1), (9, 2), (9, 10), (2, 1)):
        Tail(tmp_path, epoch, number).close()
    (tmp_path / "tail-of-something").write_bytes(b"")
    names = [path.name for path in tails_in(tmp_path)]
    assert names == ["tail-2-1", "tail-9-2", "tail-9-10", "tail-10-1"]
