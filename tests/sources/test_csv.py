"""The csv source: the contract, and each way in which a record can be wrong."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from promptmill.errors import InputError
from promptmill.models import BadRow, Row
from promptmill.options import BuildContext
from promptmill.sources._lines import split_lines
from promptmill.sources._records import split_records
from promptmill.sources.csv import CsvSourceOptions
from promptmill.testing import SourceContract


class TestCsvSource(SourceContract):
    options_class = CsvSourceOptions

    def settings(self) -> Mapping[str, Any]:
        return {"path": "rows.csv"}

    def put_texts(self, texts: list[str]) -> None:
        lines = [f'x,"{text}"\n' for text in texts]
        (self.folder / "rows.csv").write_text("".join(["other,prompt\n", *lines]) if texts else "")

    def put_bad_between(self) -> bool:
        (self.folder / "rows.csv").write_bytes(b"a,b\n1,2\n1\n3,4\n")
        return True


async def read(path: Path, data: bytes, **options: object) -> list[Row | BadRow]:
    path.write_bytes(data)
    settings = CsvSourceOptions.model_validate({"path": path.name, **options})
    async with settings.build(BuildContext(name="input", base_dir=path.parent)) as source:
        return [row async for group in source.rows() for row in group]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rows.csv"


@pytest.mark.parametrize(
    ("data", "columns"),
    [
        (b"", []),
        (b"\n\r\n", []),
        (b"a,b\n", []),
        (b"a,b\n1,2", [{"a": "1", "b": "2"}]),
        (b"\xef\xbb\xbfa,b\r\n1,2\r\n\r\n3,\r\n", [{"a": "1", "b": "2"}, {"a": "3", "b": ""}]),
        (b'\xef\xbb\xbf"a",b\n1,2\n', [{"a": "1", "b": "2"}]),
        (b' a , b\n"x, y","say ""hi"""\n', [{"a": "x, y", "b": 'say "hi"'}]),
        (b'a,b\n"line 1\nline 2\r\n\n",x\n', [{"a": "line 1\nline 2\r\n\n", "b": "x"}]),
        (b'a\n""\n', [{"a": ""}]),
        (
            b'"a", "b" ,"c"\n1, "x, y" , 3\n "4" ,"5",6\n',
            [{"a": "1", "b": "x, y", "c": " 3"}, {"a": "4", "b": "5", "c": "6"}],
        ),
        (b'a\n5" pipe\n', [{"a": '5" pipe'}]),
        (",b\n1,ü\u2028\n".encode(), [{"": "1", "b": "ü\u2028"}]),
        (b'a,b\n1,"2"\r\n', [{"a": "1", "b": "2"}]),
    ],
)
async def test_good_rows(path: Path, data: bytes, columns: list[dict[str, str]]) -> None:
    rows = await read(path, data)
    assert [row.columns for row in rows if isinstance(row, Row)] == columns
    assert len(rows) == len(columns)


@pytest.mark.parametrize(
    ("data", "code", "line", "offset", "says", "good"),
    [
        (b"a,b\n1\n3,4\n", "input_csv", 2, 4, "1 fields, the header 2", 1),
        (b"a,b\n1,2,3\n3,4\n", "input_csv", 2, 4, "3 fields", 1),
        (b'a,b\n"x"y,2\n3,4\n', "input_csv", 2, 4, "behind a closing quote: 'y,2'", 1),
        (b'a,b\n1,2\n"x\ny\n3,4\n', "input_csv", 3, 8, "up to line 5 has a quote that is not closed", 1),
        (b"a,b\r\n1,2\r3,4\r\n3,4\r\n", "input_csv", 2, 5, "a carriage return outside quotes", 1),
        (b'a\n"x"\rb,y\r\n3\n', "input_csv", 2, 2, "behind a closing quote", 1),
        (b'a,b\nx\ry,"z"\n3,4\n', "input_csv", 2, 4, "a carriage return outside quotes", 1),
        (b"a,b\n1,\xff\n3,4\n", "input_encoding", 2, 4, "byte 6 of the file", 1),
        (b'a,b\n"1\n\xff",2\n3,4\n', "input_encoding", 2, 4, "byte 7 of the file", 1),
        (b"a,b\n" + b"x" * 99 + b",2\n3,4\n", "line_too_long", 2, 4, "50 bytes", 1),
        (b'a,b\n"' + b"x\n" * 99 + b'",2\n3,4\n', "line_too_long", 2, 4, "50 bytes", 1),
        (b'a,b\n"x\n' + b"y" * 60 + b'",2\n3,4\n', "line_too_long", 2, 4, "50 bytes", 1),
    ],
)
async def test_bad_row(path: Path, data: bytes, code: str, line: int, offset: int, says: str, good: int) -> None:
    rows = await read(path, data, max_line=50)
    (bad,) = [row for row in rows if isinstance(row, BadRow)]
    assert (bad.code, bad.origin.line, bad.origin.offset) == (code, line, offset)
    assert says in bad.message
    assert len(rows) == good + 1


async def test_place_behind_quoted_newlines_is_the_physical_one(path: Path) -> None:
    data = b'a,b\n"1\n1\n1",2\n\n3,4\n'
    rows = await read(path, data)
    assert [(row.origin.line, row.origin.offset) for row in rows] == [(2, 4), (6, 15)]
    assert data[15:] == b"3,4\n"


async def test_huge_field(path: Path) -> None:
    """The standard library's reader refuses fields over 131,072 bytes."""
    (row,) = await read(path, b"a\n" + b"x" * 1_000_000 + b"\n")
    assert isinstance(row, Row)
    assert len(row.columns["a"]) == 1_000_000
    assert csv.field_size_limit() == 131_072


async def test_tabs(tmp_path: Path) -> None:
    (row,) = await read(tmp_path / "rows.tsv", b"a\tb\n1,5\t2\n")
    assert isinstance(row, Row)
    assert row.columns == {"a": "1,5", "b": "2"}


async def test_delimiter(path: Path) -> None:
    (row,) = await read(path, b"a;b\n1,5;2\n", delimiter=";")
    assert isinstance(row, Row)
    assert row.columns == {"a": "1,5", "b": "2"}


@pytest.mark.parametrize("delimiter", ["", ";;", '"', "\n", "\r"])
def test_impossible_delimiter(delimiter: str) -> None:
    with pytest.raises(ValidationError):
        CsvSourceOptions.model_validate({"path": "x", "delimiter": delimiter})


@pytest.mark.parametrize(
    ("data", "code", "says"),
    [
        (b"a,b,a\n1,2,3\n", "E0306", "'a' more than once"),
        (b",\n1,2\n", "E0306", "'' more than once"),
        (b'"a\n', "E0305", "quote that is not closed"),
        (b"\xff\n", "E0305", "not UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), "E0304", "UTF-16"),
    ],
)
async def test_bad_header(path: Path, data: bytes, code: str, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        await read(path, data)
    assert caught.value.code == code


FIELD = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=8)


@given(st.lists(st.lists(FIELD, min_size=2, max_size=4), max_size=6), st.sampled_from([",", "\t", ";"]))
def test_reads_what_the_standard_library_writes(rows: list[list[str]], delimiter: str) -> None:
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows(rows)
    data = file.getvalue().encode()
    records = list(split_records(split_lines(io.BytesIO(b"\n" + data), "x"), "x", delimiter, 10_000))
    assert [record.fields for record in records] == rows
    offsets = [record.origin.offset for record in records]
    assert offsets == sorted(set(offsets), key=lambda offset: offset or 0)


@given(st.text('a",\n\r', max_size=40), st.integers(1, 30))
def test_anything_ends_in_records(text: str, limit: int) -> None:
    data = text.encode()
    records = list(split_records(split_lines(io.BytesIO(data), "x", limit), "x", ",", limit))
    assert all(isinstance(record.fields, list | BadRow) for record in records)
    assert sum(record.length for record in records) <= len(data) + 1
