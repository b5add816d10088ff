"""The jsonl source: the contract, and each way in which a line can be wrong."""

from __future__ import annotations

import gzip
import io
import json
import sys
import threading
import tracemalloc
from collections.abc import Mapping
from pathlib import Path

import anyio
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from promptmill import jsontext
from promptmill.errors import InputError
from promptmill.models import BadRow, Row
from promptmill.options import BuildContext
from promptmill.sources._bytes import CHUNK_BYTES, suffix_of
from promptmill.sources._lines import split_lines
from promptmill.sources.jsonl import JsonlSource, JsonlSourceOptions
from promptmill.testing import SourceContract


class TestJsonlSource(SourceContract):
    options_class = JsonlSourceOptions

    def settings(self) -> Mapping[str, jsontext.JSON]:
        return {"path": "rows.jsonl"}

    def put_texts(self, texts: list[str]) -> None:
        lines = [json.dumps({"prompt": text}) + "\n" for text in texts]
        (self.folder / "rows.jsonl").write_text("".join(lines))

    def put_bad_between(self) -> bool:
        (self.folder / "rows.jsonl").write_bytes(b'{"a": 1}\n{"a": \n{"a": 3}\n')
        return True


async def read(path: Path, data: bytes | None = None, **options: object) -> list[Row | BadRow]:
    if data is not None:
        path.write_bytes(data)
    settings = JsonlSourceOptions.model_validate({"path": path.name, **options})
    return await read_all(settings, path.parent)


async def read_all(settings: JsonlSourceOptions, base_dir: Path) -> list[Row | BadRow]:
    async with settings.build(BuildContext(name="input", base_dir=base_dir)) as source:
        return [row async for group in source.rows() for row in group]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rows.jsonl"


@pytest.mark.parametrize(
    ("data", "code", "line", "offset", "says"),
    [
        (b'{"a":1}\n{"a":"\xff"}\n', "input_encoding", 2, 8, "byte 0xff at byte 14"),
        (b'{"a":1}\n{"a":"\xed\xa0\x80"}\n', "input_encoding", 2, 8, "byte 14"),
        (b'\n\n{"a":}\n', "input_json", 3, 2, "not JSON"),
        (b'{"a":1} trailing\n', "input_json", 1, 0, "not JSON"),
        (b'{"a":1}{"a":2}\n', "input_json", 1, 0, "not JSON"),
        (b"[1]\n", "input_json", 1, 0, "not a list"),
        (b'"text"\n', "input_json", 1, 0, "not text"),
        (b"null\n", "input_json", 1, 0, "not null"),
        (b"true\n", "input_json", 1, 0, "not true or false"),
        (b"7", "input_json", 1, 0, "not a number"),
        (b'{"a":1e999}', "input_json", 1, 0, "not JSON"),
        (b"[" * 100_000, "input_json", 1, 0, "deep"),
        (b"\0\n", "input_json", 1, 0, "not JSON"),
        (b'{"a":1}\r{"a":}\r', "input_json", 2, 8, "not JSON"),
        (b'\xef\xbb\xbf{"a":\n', "input_json", 1, 3, "not JSON"),
    ],
)
async def test_bad_line(path: Path, data: bytes, code: str, line: int, offset: int, says: str) -> None:
    (bad,) = [row for row in await read(path, data) if isinstance(row, BadRow)]
    assert (bad.code, bad.origin.line, bad.origin.offset) == (code, line, offset)
    assert bad.origin.file == "rows.jsonl"
    assert says in bad.message


@pytest.mark.parametrize(
    ("data", "values"),
    [
        (b"", []),
        (b"\n\r\n  \n", []),
        (b'{"a":1}', [1]),
        (b'\xef\xbb\xbf{"a":1}\n', [1]),
        (b'{"a":1}\r\n\r\n{"a":2}\r\n', [1, 2]),
        ('{"a":"x\u2028y\u2029z\x85"}\n'.encode(), ["x\u2028y\u2029z\x85"]),
        (b'{"a":"\\ud83e"}\n', ["\ufffd"]),
        (b'{"a":"x\\u0000y"}\n', ["x\0y"]),
    ],
)
async def test_good_lines(path: Path, data: bytes, values: list[object]) -> None:
    rows = await read(path, data)
    assert [row.columns["a"] for row in rows if isinstance(row, Row)] == values
    assert len(rows) == len(values)


async def test_long_line_is_a_bad_row_and_the_next_is_read(path: Path) -> None:
    data = b'{"a":1}\n{"a":"' + b"x" * 3 * CHUNK_BYTES + b'"}\n{"a":3}\n'
    rows = await read(path, data, max_line=1000)
    assert [type(row) for row in rows] == [Row, BadRow, Row]
    bad = rows[1]
    assert isinstance(bad, BadRow)
    assert (bad.code, bad.origin.line, bad.origin.offset) == ("line_too_long", 2, 8)
    assert rows[2].origin.line == 3
    assert data[rows[2].origin.offset or 0 :] == b'{"a":3}\n'


class Endless:
    """A stream of ``size`` bytes without a newline that exists nowhere."""

    def __init__(self, size: int) -> None:
        self._left = size

    def read(self, size: int, /) -> bytes:
        size = min(size, self._left)
        self._left -= size
        return bytes(size)

    def close(self) -> None:
        pass


def test_memory_is_bounded_without_any_newline() -> None:
    tracemalloc.start()
    try:
        (line,) = split_lines(Endless(200 * 1024 * 1024), "x", 1024 * 1024)
        assert tracemalloc.get_traced_memory()[1] < 8 * 1024 * 1024
    finally:
        tracemalloc.stop()
    assert (line.data, line.length) == (None, 200 * 1024 * 1024)


@given(st.binary(max_size=200), st.integers(1, 40), st.integers(1, 7))
def test_split_agrees_with_bytes_split(data: bytes, limit: int, chunk: int) -> None:
    class Small(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(chunk)

    text = b"x" + data  # not a byte order mark
    lines = list(split_lines(Small(text), "x", limit))
    pieces = text.split(b"\n")
    if not pieces[-1]:
        pieces.pop()
    assert [line.data for line in lines] == [piece if len(piece) <= limit else None for piece in pieces]
    assert [text[line.offset : line.offset + line.length] for line in lines] == pieces
    assert [line.number for line in lines] == list(range(1, len(pieces) + 1))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32"])
async def test_utf16_is_refused_with_a_hint(path: Path, encoding: str) -> None:
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    with pytest.raises(InputError, match="UTF-16") as caught:
        await read(path, mark + '{"a":1}\n'.encode(encoding))
    assert "iconv" in (caught.value.hint or "")


async def test_missing_file(path: Path) -> None:
    with pytest.raises(InputError, match=r"rows\.jsonl") as caught:
        await read(path)
    assert caught.value.code == "E0301"


async def test_directory_instead_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a directory"):
        await read(tmp_path)


async def test_globs_are_sorted_and_lists_keep_their_order(tmp_path: Path) -> None:
    for name in ("b2.jsonl", "b10.jsonl", "a.jsonl", "c[1].jsonl"):
        (tmp_path / name).write_text(json.dumps({"a": name}))
    rows = await read_all(JsonlSourceOptions(path=["b*.jsonl", "a.jsonl", "c[1].jsonl"]), tmp_path)
    assert [row.origin.file for row in rows] == ["b10.jsonl", "b2.jsonl", "a.jsonl", "c[1].jsonl"]
    with pytest.raises(InputError, match="matches no file"):
        await read_all(JsonlSourceOptions(path="*.nothing"), tmp_path)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "d.jsonl").write_text('{"a": 1}')
    assert len(await read_all(JsonlSourceOptions(path=str(tmp_path / "deep" / "**")), Path("/"))) == 1


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
async def test_compressed(tmp_path: Path, suffix: str) -> None:
    compress = gzip.compress if suffix == ".gz" else zstandard.compress
    data = b"".join(b'{"a":%d}\n' % number for number in range(3000))
    path = tmp_path / f"rows.jsonl{suffix}"
    path.write_bytes(compress(data[:100]) + compress(data[100:]))  # two members, as `cat a.gz b.gz` makes
    rows = await read(path)
    assert [row.columns["a"] for row in rows if isinstance(row, Row)] == list(range(3000))
    assert rows[-1].origin.offset == len(data) - len(b'{"a":2999}\n')


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("damage", ["cut", "garbled", "foreign"])
async def test_damaged_compression(tmp_path: Path, suffix: str, damage: str) -> None:
    checked = zstandard.ZstdCompressor(write_checksum=True)
    compress = gzip.compress if suffix == ".gz" else checked.compress
    data = compress(b'{"a":"%s"}\n' % bytes(range(33, 91)).replace(b'"', b"").replace(b"\\", b"") * 50)
    broken = {
        "cut": data[: len(data) - 9],
        "garbled": data[:12] + bytes(255 - byte for byte in data[12:40]) + data[40:],
        "foreign": b'{"a": 1}\n',
    }[damage]
    path = tmp_path / f"rows.jsonl{suffix}"
    with pytest.raises(InputError, match="damaged or cut short") as caught:
        await read(path, broken)
    assert caught.value.code == "E0303"


async def test_missing_zstd_package(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.version_info >= (3, 14):
        pytest.skip("the standard library reads zstd")
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(InputError) as caught:
        await read(path.with_suffix(".jsonl.zst"), b"")
    assert caught.value.code == "E0311"
    assert "promptmill[zstd]" in (caught.value.hint or "")


async def test_compression_does_not_change_the_fingerprint(tmp_path: Path) -> None:
    prints = []
    for name, data in (("a.jsonl", b'{"a":1}\n'), ("a.jsonl.gz", gzip.compress(b'{"a":1}\n'))):
        (tmp_path / name).write_bytes(data)
        async with JsonlSource([name], tmp_path) as source:
            prints.append(await source.fingerprint())
    assert prints[0] == prints[1]


async def test_border_between_files_is_in_the_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12")
    (tmp_path / "b").write_bytes(b"3")
    async with JsonlSource(["a", "b"], tmp_path) as source:
        first = await source.fingerprint()
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"23")
    async with JsonlSource(["a", "b"], tmp_path) as source:
        assert await source.fingerprint() != first


async def test_stdin_is_read_twice_and_its_copy_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"a":1}\n{"a":2}\n')))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "more.jsonl").write_text('{"a":3}')
    async with JsonlSource(["-", "more.jsonl"], tmp_path) as source:
        for _ in range(2):
            rows = [row async for group in source.rows() for row in group]
            assert [str(row.origin) for row in rows] == [
                "<stdin>:1 (byte 0)",
                "<stdin>:2 (byte 8)",
                "more.jsonl:1 (byte 0)",
            ]
        assert len(list(tmp_path.iterdir())) == 2
    assert [entry.name for entry in tmp_path.iterdir()] == ["more.jsonl"]


async def test_unreadable_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    path.write_bytes(b"{}")
    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(InputError, match="cannot be read: Permission denied") as caught:
        await read(path)
    assert caught.value.code == "E0302"


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("a.jsonl", ".jsonl"), ("a.JSONL.GZ", ".jsonl"), ("x/a.b.csv.zst", ".csv"), ("a", ""), ("a.gz", "")],
)
def test_suffix_that_tells_the_format(name: str, suffix: str) -> None:
    assert suffix_of(name) == suffix


async def test_waiting_for_stdin_can_be_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    class Idle(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            released.wait(30)
            return b""

    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(Idle()))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    source = JsonlSource(["-"], tmp_path)
    try:
        with anyio.move_on_after(0.1) as scope:
            await source.aopen()
        assert scope.cancelled_caught
        assert list(tmp_path.iterdir()) == []
    finally:
        released.set()
