"""Durable operations: short writes, failed syncs, refused targets."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptmill import files
from promptmill.errors import RunLocked, StorageError
from promptmill.files import DurableFile, MappedFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a" / "b" / "file"


def test_write_truncate_and_size(path: Path) -> None:
    file = DurableFile.open(path)
    file.write(b"hello world")
    file.truncate(5)
    file.write(b"!")
    file.fsync()
    assert file.size() == 6
    file.close()
    file.close()
    assert path.read_bytes() == b"hello!"
    again = DurableFile.open(path)
    again.write(b"?")
    again.close()
    assert path.read_bytes() == b"hello!?"


def test_short_writes_are_repeated(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, bytes(data[:3])))
    file = DurableFile.open(path)
    file.write(b"0123456789")
    file.close()
    assert path.read_bytes() == b"0123456789"


def fail(number: int) -> object:
    def operation(*args: object, **kwargs: object) -> None:
        raise OSError(number, os.strerror(number))

    return operation


@pytest.mark.parametrize(
    ("operation", "system", "number", "code"),
    [
        ("fsync", "fsync", errno.EIO, "E0603"),
        ("write", "write", errno.ENOSPC, "E0602"),
        ("truncate", "ftruncate", errno.EIO, "E0602"),
    ],
)
def test_failure_is_final(
    path: Path, monkeypatch: pytest.MonkeyPatch, operation: str, system: str, number: int, code: str
) -> None:
    """The kernel reports a failed sync once; a second, successful one would be a lie."""
    monkeypatch.setattr(sys, "platform", "linux")
    file = DurableFile.open(path)
    arguments = {"fsync": (), "write": (b"x",), "truncate": (0,)}[operation]
    with monkeypatch.context() as broken:
        broken.setattr(os, system, fail(number))
        with pytest.raises(StorageError) as caught:
            getattr(file, operation)(*arguments)
    assert caught.value.code == code
    assert repr(str(path)) in caught.value.message
    assert os.strerror(number) in caught.value.message
    for again in (file.fsync, lambda: file.write(b"y"), lambda: file.truncate(0)):
        with pytest.raises(StorageError, match="failed before"):
            again()
    file.close()
    assert path.read_bytes() == b""


def test_new_names_are_synced(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(files, "fsync_dir", synced.append)
    DurableFile.open(path).close()
    assert synced == [path.parents[2], path.parents[1], path.parent]
    synced.clear()
    DurableFile.open(path).close()
    assert synced == [path.parent]  # whoever made it may have been killed before the name was durable
    synced.clear()
    DurableFile.open(path, synced=False).close()
    assert synced == []


def refuse_to_map(*_: object) -> None:
    raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))


@pytest.mark.parametrize("can_map", [True, False], ids=["mapped", "not mapped"])
@given(pieces=st.lists(st.binary(max_size=300), max_size=30), growth=st.integers(1, 500))
def test_a_mapped_file_holds_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, can_map: bool, pieces: list[bytes], growth: int
) -> None:
    path = tmp_path_factory.mktemp("mapped") / "file"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "GROWTH_BYTES", growth)
        if not can_map:
            patch.setattr(files.mmap, "mmap", refuse_to_map)
        file = MappedFile.open(path, synced=False)
        written = b""
        for piece in pieces:
            file.write(piece)
            written += piece
            assert file.size() == len(written)
            there = path.read_bytes()
            assert there[: len(written)] == written
            assert not there[len(written) :].strip(b"\0")
        file.close()
        file.close()
    assert path.read_bytes() == written


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_what_is_written_to_a_mapped_file_outlives_its_process(path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from promptmill.files import MappedFile\n"
        "file = MappedFile.open(Path(sys.argv[1]), synced=False)\n"
        "for number in range(50_000): file.write(b'%06d' % number)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    written = b"".join(b"%06d" % number for number in range(50_000))
    assert path.read_bytes().rstrip(b"\0") == written


def test_a_mapped_file_without_room_takes_nothing_more(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "GROWTH_BYTES", 10)
    file = MappedFile.open(path, synced=False)
    file.write(b"01234567")
    with monkeypatch.context() as full:
        full.setattr(os, "write", fail(errno.ENOSPC))
        with pytest.raises(StorageError, match="No space left") as caught:
            file.write(b"89ab")
    assert caught.value.code == "E0602"
    with pytest.raises(StorageError, match="failed before"):
        file.write(b"8")
    file.close()
    assert path.read_bytes().rstrip(b"\0") == b"01234567"


def test_room_that_is_reserved_needs_no_call_later(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = MappedFile.open(path, synced=False)
    file.write(b"0")
    file.reserve()
    with monkeypatch.context() as full:
        full.setattr(os, "write", fail(errno.ENOSPC))
        for _ in range(files.RESERVE_BYTES // 1000):
            file.write(bytes(1000))
        file.reserve()  # says nothing
        assert file.size() > files.RESERVE_BYTES - 1000
        with pytest.raises(StorageError, match="No space left"):
            file.write(bytes(2 * files.GROWTH_BYTES))
    file.close()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no claims on Windows")
def test_a_claimed_file_is_not_shared(path: Path) -> None:
    first, second = DurableFile.open(path), DurableFile.open(path)
    first.claim()
    with pytest.raises(RunLocked) as caught:
        second.claim()
    assert (caught.value.code, caught.value.exit_code) == ("E0702", 7)
    first.close()
    second.claim()
    second.close()


def test_remove_does_not_mind_a_missing_file(path: Path) -> None:
    DurableFile.open(path).close()
    files.remove(path)
    files.remove(path)
    assert not path.exists()
    path.mkdir()
    with pytest.raises(StorageError) as caught:
        files.remove(path)
    assert caught.value.code == "E0604"


def test_directory_sync_failure_closes_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.parent.mkdir(parents=True)
    monkeypatch.setattr(os, "fsync", fail(errno.EIO))
    if sys.platform == "win32":
        pytest.skip("directories are not synced here")
    with pytest.raises(StorageError) as caught:
        DurableFile.open(path)
    assert caught.value.code == "E0603"


def test_directory_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        DurableFile.open(tmp_path)
    assert caught.value.code == "E0601"
    assert caught.value.exit_code == 6


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StorageError, match="not a regular file") as caught:
        DurableFile.open(tmp_path / "pipe")
    assert caught.value.code == "E0612"


def test_rename_replaces_and_syncs_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(files, "fsync_dir", synced.append)
    (tmp_path / "new").write_bytes(b"new")
    (tmp_path / "old").write_bytes(b"old")
    files.rename(tmp_path / "new", tmp_path / "old")
    assert (tmp_path / "old").read_bytes() == b"new"
    assert synced == [tmp_path]
    with pytest.raises(StorageError) as caught:
        files.rename(tmp_path / "missing", tmp_path / "old")
    assert caught.value.code == "E0604"


def test_sync_of_a_missing_directory(tmp_path: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("directories are not synced here")
    with pytest.raises(StorageError) as caught:
        files.fsync_dir(tmp_path / "missing")
    assert caught.value.code == "E0603"
