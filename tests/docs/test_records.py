"""The fields of records and summaries stand in the reference, in their order."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from promptmill import Result, Summary, Usage
from promptmill._report import LatencySummary, ProviderSummary
from promptmill.models import ErrorInfo

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def rows_of(text: str) -> list[str]:
    """The names in the first column of a table."""
    return re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)


def test_the_result_record() -> None:
    whole = (REFERENCE / "result-record.md").read_text("utf-8")
    record, usage, error, *_ = re.split(r"^## ", whole, flags=re.MULTILINE)
    assert tuple(rows_of(record)) == Result.__struct_fields__
    assert tuple(rows_of(usage)) == Usage.__struct_fields__
    assert tuple(rows_of(error)) == ErrorInfo.__struct_fields__


@pytest.mark.parametrize("part", [ProviderSummary, LatencySummary])
def test_the_summary_names_the_fields_of_its_parts(part: type[msgspec.Struct]) -> None:
    text = (REFERENCE / "summary.md").read_text("utf-8")
    assert [name for name in part.__struct_fields__ if f"`{name}`" not in text] == []


def test_the_summary() -> None:
    text = (REFERENCE / "summary.md").read_text("utf-8")
    assert tuple(rows_of(text)) == Summary.__struct_fields__
    (example,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    msgspec.json.decode(example, type=Summary)
