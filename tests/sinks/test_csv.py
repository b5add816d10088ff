"""The csv sink: the contract, the columns, and cells that a spreadsheet must not run."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptmill.interfaces import Sink
from promptmill.models import ErrorInfo, Result, Row, Usage
from promptmill.options import BuildContext
from promptmill.sinks.csv import CsvSink, CsvSinkOptions
from promptmill.sources.csv import CsvSourceOptions
from promptmill.testing import SinkContract, result

COLUMNS = (
    "id,index,status,text,finish_reason,provider,model,tier,attempts,latency_s,input_tokens,cached_tokens,"
    "output_tokens,reasoning_tokens,cost_usd,error_code,error_message,error_http_status,error_retryable,meta"
)


def records(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


class TestCsvSink(SinkContract):
    options_class = CsvSinkOptions

    def settings(self) -> Mapping[str, Any]:
        return {"path": "answers.csv", "excel_safe": False}

    @property
    def path(self) -> Path:
        return self.folder / "answers.csv"

    def rows(self) -> Sequence[tuple[str, str | None]]:
        return [(row["id"], row["text"] if row["status"] == "ok" else None) for row in records(self.path)]

    def make_foreign(self) -> bool:
        self.path.write_bytes(b"id\n")
        return True

    def make_unwritable(self) -> Sink:
        (self.folder / "directory").mkdir()
        return CsvSink(self.folder / "directory")

    def lose(self) -> None:
        self.path.write_bytes(b"")


class TestExcelSafe(TestCsvSink):
    def settings(self) -> Mapping[str, Any]:
        return {"path": "answers.csv"}

    def rows(self) -> Sequence[tuple[str, str | None]]:
        return [(row_id, text and text.removeprefix("'")) for row_id, text in super().rows()]


def lines_of(*results: Result) -> list[str]:
    return CsvSink(Path("x")).encode(results).decode().split("\n")[:-1]


def test_columns() -> None:
    failed = result(
        None,
        id="2",
        index=1,
        status="failed",
        attempts=3,
        latency_s=0.5,
        usage=Usage(input_tokens=0),
        error=ErrorInfo(code="bad_request", message='no "x"', http_status=400, retryable=True),
        meta={"label": "é", "n": 1},
    )
    assert CsvSink.header.decode() == COLUMNS + "\n"
    assert lines_of(failed) == [
        '2,1,failed,,,,,,3,0.5,0,,,,,bad_request,"no ""x""",400,true,"{""label"":""é"",""n"":1}"'
    ]


async def test_file_with_nothing_but_the_header_counts_as_empty(tmp_path: Path) -> None:
    """A kill between the first commit and the note of it leaves such a file."""
    path = tmp_path / "answers.csv"
    for _ in range(2):
        async with CsvSink(path) as sink:
            await sink.start(None)
            await sink.commit()
            assert path.read_bytes() == CsvSink.header


def test_no_text_and_empty_text_differ() -> None:
    assert lines_of(result(None), result("")) == ["1,0,ok,,,,,,0,,,,,,,,,,,", '1,0,ok,"",,,,,0,,,,,,,,,,,']


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20", "'"])
def test_formula_cells_are_disarmed(start: str) -> None:
    (row,) = parsed(lines_of_bytes(result(start + "cmd|' /C calc'!A0", id=start + "1+1", meta={"=a": "=1"})))
    assert row["text"].startswith("'" + start)
    assert row["id"].startswith("'" + start)
    assert row["meta"].startswith("{")


@pytest.mark.parametrize("number", ["-5", "+3.25", "-0.001"])
def test_numbers_are_left_alone(number: str) -> None:
    (row,) = parsed(lines_of_bytes(result(number, cost_usd=-1.5)))
    assert (row["text"], row["cost_usd"]) == (number, "-1.5")


def lines_of_bytes(*results: Result) -> str:
    return (CsvSink.header + CsvSink(Path("x")).encode(results)).decode()


def parsed(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=4))
def test_any_text_comes_back_and_starts_no_formula(texts: list[str]) -> None:
    rows = parsed(lines_of_bytes(*[result(text) for text in texts]))
    assert [row["text"].removeprefix("'") for row in rows] == texts
    for row in rows:
        text = row["text"]
        assert not text.startswith(("=", "@", "\t", "\r", "\n"))
        assert not text.startswith(("+", "-")) or text[1:].replace(".", "", 1).isdigit()


@pytest.mark.parametrize("bom", [False, True])
@pytest.mark.parametrize("excel_safe", [False, True])
async def test_our_own_file_read_again_has_the_same_texts(tmp_path: Path, excel_safe: bool, bom: bool) -> None:
    texts = ["- item one\n- item two", "=1+1", "'quoted'", "''", "-5", "", " x ", "'=1", "a\r\nb\rc\n", "a;b\tc|d"]
    texts += ['"', "\ufeff", "\0", "\u2028"]
    sink = CsvSink(tmp_path / "out.csv", excel_safe=excel_safe, bom=bom)
    async with sink:
        await sink.start(None)
        await sink.write([result(text, id=str(at), meta={"t": text}) for at, text in enumerate(texts)])
        await sink.commit()
    assert (tmp_path / "out.csv").read_bytes().startswith(b"\xef\xbb\xbf") == bom
    options = CsvSourceOptions(path="out.csv")
    async with options.build(BuildContext(name="input", base_dir=tmp_path)) as source:
        rows = [row async for group in source.rows() for row in group]
    assert [row.columns["text"] for row in rows if isinstance(row, Row)] == texts
    assert [json.loads(row.columns["meta"])["t"] for row in rows if isinstance(row, Row)] == texts
    with (tmp_path / "out.csv").open(encoding="utf-8-sig", newline="") as file:
        assert next(csv.reader(file)) == COLUMNS.split(",")


async def test_the_apostrophes_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("id,text\n1,'=x\n")
    async with CsvSourceOptions(path="in.csv").build(BuildContext(name="input", base_dir=tmp_path)) as source:
        (group,) = [group async for group in source.rows()]
    assert [row.columns["text"] for row in group if isinstance(row, Row)] == ["'=x"]


async def test_a_changed_text_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sink = CsvSink(tmp_path / "out.csv")
    caplog.set_level("WARNING", "promptmill")
    async with sink:
        await sink.start(None)
        for at in range(5):
            await sink.write([result("- item", id=str(at))])
    (told,) = [record.getMessage() for record in caplog.records]
    assert told == (
        f"the output {str(tmp_path / 'out.csv')!r}: texts that a spreadsheet would take for a formula get a ' before "
        "them, unless `excel_safe: false`"
    )


async def test_a_mark_goes_on_behind_a_position(tmp_path: Path) -> None:
    for position, text in ((None, "a"), ({"bytes": 0}, "b")):
        sink = CsvSink(tmp_path / "out.csv", bom=True)
        async with sink:
            await sink.start(position)
            await sink.write([result(text)])
            await sink.commit()
    assert (tmp_path / "out.csv").read_bytes().count(b"\xef\xbb\xbf") == 1
