"""What the world really sends: other formats, other layouts of JSON, other separators, line ends and encodings."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import sqlite3
import tarfile
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from promptmill.errors import InputError
from promptmill.models import BadRow, Row
from promptmill.options import BuildContext
from promptmill.sources._values import split_values
from promptmill.sources.csv import CsvSourceOptions
from promptmill.sources.jsonl import JsonlSourceOptions

TWO = [{"id": "a", "prompt": "x, [y] {z}"}, {"id": "b", "prompt": 'say "hi" \\ é\u2028'}]


async def read(path: Path, data: bytes, **options: Any) -> tuple[list[Row | BadRow], list[str]]:
    """Rows and notes."""
    path.write_bytes(data)
    kind = CsvSourceOptions if path.suffix in (".csv", ".tsv") else JsonlSourceOptions
    settings = kind.model_validate({"path": path.name, **options})
    async with settings.build(BuildContext(name="input", base_dir=path.parent)) as source:
        rows = [row async for group in source.rows() for row in group]
        return rows, list(source.notes())


async def columns(path: Path, data: bytes, **options: Any) -> list[Any]:
    rows, _ = await read(path, data, **options)
    assert all(isinstance(row, Row) for row in rows), rows
    return [row.columns for row in rows if isinstance(row, Row)]


async def refused(path: Path, data: bytes, code: str, **options: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        await read(path, data, **options)
    assert caught.value.code == code
    assert caught.value.hint
    assert caught.value.problems[0].location is not None
    return caught.value


def compact(rows: list[Any] = TWO) -> str:
    return json.dumps(rows, ensure_ascii=False)


@pytest.mark.parametrize(
    "text",
    [
        compact(),
        compact() + "\n\n",
        json.dumps(TWO, indent=2),
        json.dumps(TWO, indent="\t").replace("\n", "\r\n"),
        json.dumps(TWO, indent=2).replace("\n", "\r"),
        " \n " + json.dumps(TWO, ensure_ascii=False, indent=0),
        "\ufeff" + compact(),
        "[\n" + ",\n".join(json.dumps(row) for row in TWO) + ",\n]\n",
        ",\n".join(json.dumps(row) for row in TWO) + ",\n",
        ",\n".join(json.dumps(row) for row in TWO),
        "\n".join(json.dumps(row, indent=4) for row in TWO),
        "\n\n".join(json.dumps(row, indent=4) for row in TWO) + "\n",
        "\r".join(json.dumps(row) for row in TWO) + "\r",
    ],
)
async def test_json_in_other_layouts(tmp_path: Path, text: str) -> None:
    assert await columns(tmp_path / "in.jsonl", text.encode()) == TWO


async def test_one_pretty_object_and_an_array_of_nothing(tmp_path: Path) -> None:
    assert await columns(tmp_path / "in.json", json.dumps(TWO[0], indent=2).encode()) == TWO[:1]
    assert await read(tmp_path / "in.json", b"[ ]\n") == ([], ["the input 'in.json' has no rows"])


async def test_a_long_array_with_values_over_the_borders_of_chunks(tmp_path: Path) -> None:
    rows = [{"id": str(n), "text": ('\\"}] ' * (n % 50)) + "é" * n} for n in range(3000)]
    assert await columns(tmp_path / "in.json", json.dumps(rows, ensure_ascii=False, indent=1).encode()) == rows


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_values_are_found_whatever_the_chunks(size: int) -> None:
    text = compact([*TWO, 'a \\" string', 7, None, [1, {"a": "]"}], {}]).encode()

    class Slow(io.BytesIO):
        def read(self, _size: int | None = -1, /) -> bytes:
            return super().read(size)

    values = [json.loads(line.data or b"") for line in split_values(Slow(text), "x", 1000)]
    assert values == json.loads(text)


async def test_places_and_bad_elements_of_an_array(tmp_path: Path) -> None:
    data = b'[\n  {"a": 1},\n  17,\n  {"a": },\n  {"a": "' + b"x" * 99 + b'"},\n  {"a": 2}\n]\n'
    rows, _ = await read(tmp_path / "in.jsonl", data, max_line=50)
    assert [row.code if isinstance(row, BadRow) else row.columns["a"] for row in rows] == [
        1,
        "input_json",
        "input_json",
        "line_too_long",
        2,
    ]
    assert [row.origin.line for row in rows] == [2, 3, 4, 5, 6]
    assert [data[row.origin.offset or 0 :][:1] for row in rows] == [b"{", b"1", b"{", b"{", b"{"]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b'[{"a": 1}, {"a": ', "in the middle of the JSON value"),
        (b'[{"a": 1}, {"a": 2}', "cut short"),
        (b'[{"a": 1}] {"a": 2}', "behind the end of the JSON array"),
    ],
)
async def test_broken_arrays(tmp_path: Path, data: bytes, says: str) -> None:
    assert says in (await refused(tmp_path / "in.json", data, "E0309")).message


@pytest.mark.parametrize(
    ("line", "row", "column"),
    [
        (b'{"a": "NaN", "score": NaN}', {"a": "NaN", "score": None}, "score"),
        (b'{"score": -Infinity, "a": "\\ud800"}', {"score": None, "a": "\ufffd"}, "score"),
        (b'{"deep": {"x": [1, Infinity]}, "a": null}', {"deep": {"x": [1, None]}, "a": None}, "deep"),
    ],
)
async def test_what_python_writes_for_no_number_is_null(
    tmp_path: Path, line: bytes, row: dict[str, Any], column: str
) -> None:
    rows, notes = await read(tmp_path / "in.jsonl", line + b'\n{"a": 1}\n' + line)
    assert [one.columns for one in rows if isinstance(one, Row)] == [row, {"a": 1}, row]
    assert notes == [f"in.jsonl: NaN or Infinity in the column {column!r} is taken as null (2 times)"]


async def test_notes_are_those_of_one_pass(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(b'{"a": NaN}\n')
    options = JsonlSourceOptions(path="in.jsonl")
    async with options.build(BuildContext(name="input", base_dir=tmp_path)) as source:
        for _ in range(3):
            assert len([group async for group in source.rows()]) == 1
        assert source.notes() == ["in.jsonl: NaN or Infinity in the column 'a' is taken as null"]


def sqlite_file(folder: Path) -> bytes:
    with closing(sqlite3.connect(folder / "x.db")) as connection:
        connection.execute("CREATE TABLE a (b)")
    return (folder / "x.db").read_bytes()


def zip_file(name: str = "rows.jsonl") -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(name, "{}")
    return data.getvalue()


def ods_file() -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
    return data.getvalue()


def tar_file() -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("rows.jsonl"))
    return data.getvalue()


FORMATS: list[tuple[bytes, str]] = [
    (b"PAR1\x15\x04" + b"x" * 50 + b"PAR1", "a Parquet file"),
    (zip_file("xl/workbook.xml"), "an Excel workbook"),
    (zip_file(), "a zip archive"),
    (zip_file("[Content_Types].xml"), "an Office document"),
    (ods_file(), "an OpenDocument spreadsheet"),
    (gzip.compress(gzip.compress(b"{}")), "compressed twice"),
    (tar_file(), "a tar archive"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(100), "an old Excel"),
    (bz2.compress(b"{}\n"), "compressed with bzip2"),
    (lzma.compress(b"{}\n"), "compressed with xz"),
    (pickle.dumps([{"a": 1}]), "a Python pickle"),
    (b"<!DOCTYPE html>\n<html><body>Sign in</body></html>\n", "an HTML or XML page"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 5\n", "Git LFS"),
    (b"%PDF-1.7\n", "a PDF document"),
    (bytes(range(8)) * 40, "binary data"),
]


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet", ".gz"])
@pytest.mark.parametrize(("data", "what"), FORMATS, ids=[what for _, what in FORMATS])
async def test_other_formats_are_named(tmp_path: Path, data: bytes, what: str, ending: str) -> None:
    if ending == ".gz" and what != "compressed twice":
        data = gzip.compress(data)
    error = await refused(tmp_path / f"in{ending}", data, "E0308")
    assert f"the input 'in{ending}' is {what}" in error.message or what in error.message


async def test_databases_are_named(tmp_path: Path) -> None:
    error = await refused(tmp_path / "in.jsonl", sqlite_file(tmp_path), "E0308")
    assert "an SQLite database" in error.message


@pytest.mark.parametrize("name", ["in.jsonl", "in.csv", "in", "in.bin"])
async def test_compressed_without_its_ending(tmp_path: Path, name: str) -> None:
    zstandard = pytest.importorskip("zstandard")
    plain = b"id,prompt\na,x\n" if name == "in.csv" else b'{"id": "a", "prompt": "x"}\n'
    for data in (gzip.compress(plain), zstandard.ZstdCompressor().compress(plain)):
        assert await columns(tmp_path / name, data) == [{"id": "a", "prompt": "x"}]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("last", [True, False])
async def test_separators_and_line_ends_are_found_out(
    tmp_path: Path, end: str, delimiter: str, mark: str, last: bool
) -> None:
    lines = [["id", "Question "], ["1", "Hello"], ["2", f'"a{delimiter} b, c; d"'], ["3", "1.5"], ["4", '"say ""x"""']]
    text = end.join(delimiter.join(line) for line in lines) + (end if last else "")
    rows, notes = await read(tmp_path / "in.csv", (mark + text).encode())
    assert [row.columns for row in rows if isinstance(row, Row)] == [
        {"id": "1", "Question": "Hello"},
        {"id": "2", "Question": f"a{delimiter} b, c; d"},
        {"id": "3", "Question": "1.5"},
        {"id": "4", "Question": 'say "x"'},
    ]
    assert [row.origin.line for row in rows] == [2, 3, 4, 5]
    assert [repr(delimiter) in note for note in notes] == ([] if delimiter == "," else [True])


@pytest.mark.parametrize("line", [b"sep=;", b'"sep=;"', b"SEP=;", b"sep=;;;"])
@pytest.mark.parametrize("end", [b"\r\n", b"\n", b"\r"])
async def test_the_directive_of_excel(tmp_path: Path, line: bytes, end: bytes) -> None:
    data = end.join([line, b"id;question", b'1;"a; b"', b"2;3,50", b""])
    rows, _ = await read(tmp_path / "in.csv", data)
    assert [row.columns for row in rows if isinstance(row, Row)] == [
        {"id": "1", "question": "a; b"},
        {"id": "2", "question": "3,50"},
    ]
    assert rows[0].origin.line == 3


async def test_decimal_commas_are_no_separators(tmp_path: Path) -> None:
    data = b"name;price\nA;1,50\nB;2,75\n"
    assert await columns(tmp_path / "in.csv", data) == [{"name": "A", "price": "1,50"}, {"name": "B", "price": "2,75"}]


async def test_a_table_of_one_column_is_one(tmp_path: Path) -> None:
    data = b"question\nWhat; is | this\nAnd\tthis; too\n"
    assert await columns(tmp_path / "in.csv", data) == [{"question": "What; is | this"}, {"question": "And\tthis; too"}]


async def test_commas_that_nobody_quoted_are_bad_rows_and_no_riddle(tmp_path: Path) -> None:
    data = b"id,question (yes|no)\n1,What, is it?\n2,And, this?\n3,Fine?\n4,But, why?\n"
    rows, notes = await read(tmp_path / "in.csv", data)
    assert [row.code if isinstance(row, BadRow) else row.columns["id"] for row in rows] == [
        *("input_csv", "input_csv", "3", "input_csv")
    ]
    assert notes == []


@pytest.mark.parametrize("header", ["a;b|c", "id; the number", "x|y"])
async def test_a_header_that_nobody_can_read_is_shown(tmp_path: Path, header: str) -> None:
    error = await refused(tmp_path / "in.csv", f"{header}\nno\nsuch\nthing\n".encode(), "E0305")
    assert repr(header) in error.message
    assert "delimiter" in (error.hint or "")
    assert len(await columns(tmp_path / "in.csv", f"{header}\nno\n".encode(), delimiter=",")) == 1


async def test_what_the_job_says_wins(tmp_path: Path) -> None:
    assert await columns(tmp_path / "in.csv", b"a;b\n1;2\n", delimiter=",") == [{"a;b": "1;2"}]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])
@pytest.mark.parametrize("name", ["in.csv", "in.jsonl"])
async def test_utf16_is_refused_and_read_when_the_job_says_so(tmp_path: Path, encoding: str, name: str) -> None:
    text = "id,prompt\na,größer als vorher\n" if name == "in.csv" else '{"id": "a", "prompt": "größer als vorher"}\n'
    error = await refused(tmp_path / name, text.encode(encoding), "E0304")
    assert "encoding: utf-16" in (error.hint or "")
    rows = await columns(tmp_path / name, text.encode(encoding), encoding=encoding)
    assert rows == [{"id": "a", "prompt": "größer als vorher"}]


CP1252 = "id,question\r\n1,café au lait\r\n2,“quoted” text…\r\n3,plain\r\n"


@pytest.mark.parametrize("encoding", ["cp1252", "mac-roman", "cp1250"])
async def test_windows_text_is_refused_before_a_row_is_lost(tmp_path: Path, encoding: str) -> None:
    error = await refused(tmp_path / "in.csv", CP1252.encode(encoding), "E0304")
    assert "the input 'in.csv' is not UTF-8 text: byte 0x" in error.message
    assert "in line 2" in error.message
    assert "iconv -f CP1252" in (error.hint or "")
    rows = await columns(tmp_path / "in.csv", CP1252.encode(encoding), encoding=encoding)
    assert [row["question"] for row in rows] == ["café au lait", "“quoted” text…", "plain"]
    error = await refused(tmp_path / "in.jsonl", '{"prompt": "café"}\n'.encode(encoding), "E0304")
    assert "line 1" in error.message


@pytest.mark.parametrize("text", ["1,café", "1,café\r", "é", "1,Ü", "1,naïve"])
async def test_a_letter_at_the_end_of_a_line_is_no_cut(tmp_path: Path, text: str) -> None:
    for end in ("\n", ""):
        await refused(tmp_path / "in.csv", f"a,b\n1,plain\n{text}{end}".encode("cp1252"), "E0304")


async def test_a_damaged_line_of_a_good_file_is_one_bad_row(tmp_path: Path) -> None:
    for broken in ("caf\u00e9 \u00e9".encode()[:-1], b"caf\xc3\xa9 \xe9 au", b"\xff"):
        rows, _ = await read(tmp_path / "in.csv", b"a,b\n1," + broken + b"\n2,x\n")
        assert [row.code if isinstance(row, BadRow) else row.columns["b"] for row in rows] == ["input_encoding", "x"]


async def test_a_wrong_encoding_is_an_error(tmp_path: Path) -> None:
    error = await refused(tmp_path / "in.csv", "a,b\né,1\n".encode(), "E0304", encoding="ascii")
    assert "is not ascii text" in error.message


@pytest.mark.parametrize("encoding", ["cp-nothing", "rot13", "base64"])
def test_no_such_encoding(encoding: str) -> None:
    with pytest.raises(ValueError, match="encoding"):
        CsvSourceOptions.model_validate({"path": "x", "encoding": encoding})


@pytest.mark.parametrize(("data", "what"), [(b"", "is empty"), (b"\n \r\n", "is empty"), (b"a,b\n", "has no rows")])
async def test_an_empty_input_is_said(tmp_path: Path, data: bytes, what: str) -> None:
    assert await read(tmp_path / "in.csv", data) == ([], [f"the input 'in.csv' {what}"])


@pytest.mark.parametrize("data", [b"id,prompt\n1,x\n", b"id;prompt\r1;x\r", b"\xef\xbb\xbfid\tprompt\r\n1\tx\r\n"])
async def test_csv_by_the_name_of_json_is_named(tmp_path: Path, data: bytes) -> None:
    error = await refused(tmp_path / "in.jsonl", data, "E0308")
    assert "its first line is 'id" in error.message
    assert "use: csv" in (error.hint or "")


async def test_plain_text_is_named(tmp_path: Path) -> None:
    error = await refused(tmp_path / "in.jsonl", b"What is this?\nAnd that?\n", "E0308")
    assert "one JSON object a line" in (error.hint or "")
    rows, _ = await read(tmp_path / "in.jsonl", b'What is this?\n{"prompt": "x"}\n')
    assert [isinstance(row, BadRow) for row in rows] == [True, False]


@pytest.mark.parametrize("text", [compact(), json.dumps(TWO, indent=2), json.dumps(TWO[0]), " " + json.dumps(TWO[0])])
async def test_json_by_the_name_of_csv_is_named(tmp_path: Path, text: str) -> None:
    error = await refused(tmp_path / "in.csv", text.encode(), "E0308")
    assert "use: jsonl" in (error.hint or "")


async def test_the_same_bytes_read_in_another_way_are_another_input(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(b"a;b\n1;2\n")
    found = []
    for options in (
        {},
        {"encoding": "cp1252"},
        {"encoding": "windows-1252"},
        {"encoding": "mac-roman"},
        {"delimiter": ","},
    ):
        settings = CsvSourceOptions.model_validate({"path": "in.csv", **options})
        async with settings.build(BuildContext(name="input", base_dir=tmp_path)) as source:
            found.append(await source.fingerprint())
    assert found[1] == found[2]
    assert len(set(found)) == 4
