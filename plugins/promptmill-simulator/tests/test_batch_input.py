from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptmill_simulator import BatchTimes
from promptmill_simulator.batch_input import MAX_PROBLEMS, check_input, read_lines

URL = "/v1/chat/completions"
TIMES = BatchTimes.model_validate({"max_requests": 200, "max_bytes": 100_000})


def line(custom_id: Any = "a", **changes: Any) -> bytes:
    value = {"custom_id": custom_id, "method": "POST", "url": URL, "body": {"model": "m", "messages": []}, **changes}
    return json.dumps(value).encode() + b"\n"


def problems(path: Path, content: bytes) -> list[tuple[str, int | None]]:
    path.write_bytes(content)
    return [(problem.code, problem.line) for problem in check_input(path, URL, TIMES).problems]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (line() + line("b"), []),
        (line() + b"\n  \n" + line("b"), []),
        (line().rstrip(), []),
        (line().replace(b"\n", b"\r\n") + line("b"), []),
        (line("a\u2028b"), []),
        (b"", [("empty_file", None)]),
        (b"\n\n", [("empty_file", None)]),
        (line() + b"{oops\n", [("invalid_json_line", 2)]),
        (b"[1]\n", [("invalid_json_line", 1)]),
        (b"\xef\xbb\xbf" + line(), [("invalid_json_line", 1)]),
        (line() + line("b") + line(), [("duplicate_custom_id", 3)]),
        (line(url="/v1/embeddings"), [("url_mismatch", 1)]),
        (line(method="GET"), [("invalid_method", 1)]),
        (line(7), [("missing_required_parameter", 1)]),
        (line(body="x"), [("missing_required_parameter", 1)]),
        (line(body={}), [("missing_required_parameter", 1)]),
        (line() + line("b", body={"model": "n"}), [("model_mismatch", 2)]),
        (b"".join(line(str(number)) for number in range(201)), [("too_many_tasks", None)]),
        (line(body={"model": "m", "x": "y" * 100_000}), [("file_too_large", None)]),
    ],
)
def test_what_is_wrong_is_found(tmp_path: Path, content: bytes, expected: list[tuple[str, int | None]]) -> None:
    assert problems(tmp_path / "in.jsonl", content) == expected


def test_no_more_problems_than_anyone_reads(tmp_path: Path) -> None:
    assert len(problems(tmp_path / "in.jsonl", b"x\n" * 500)) == MAX_PROBLEMS


def test_lines_are_found_again_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(line("a") + b"\n" + line("ü\u2028") + line("c").rstrip())
    checked = check_input(path, URL, TIMES)
    assert checked.model == "m"
    with path.open("rb") as contents:
        found = read_lines(contents, checked.spans[::-1])
    assert [item.custom_id for item in found] == ["c", "ü\u2028", "a"]
    assert [span.number for span in checked.spans] == [1, 3, 4]


@given(st.binary(max_size=300))
def test_any_bytes_can_be_checked(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes(content)
    assert check_input(path, URL, TIMES).problems
