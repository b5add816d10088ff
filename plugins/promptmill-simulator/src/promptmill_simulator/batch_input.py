"""Reads and checks the input file of a batch.

Codes of the problems: those observed at the official API and documented by its compatible hosts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from promptmill import jsontext
from promptmill_simulator.batch_problem import BatchProblem
from promptmill_simulator.batch_script import BatchTimes

MAX_PROBLEMS: Final = 100
_BOM: Final = b"\xef\xbb\xbf"


class Span(msgspec.Struct, frozen=True, gc=False):
    """Where a line is in the file, in bytes, and which line it is (1-based)."""

    start: int
    length: int
    number: int


class Checked(msgspec.Struct, frozen=True):
    """An input file that has been read: its lines and its model, or what is wrong with it."""

    spans: list[Span]
    model: str | None
    problems: list[BatchProblem]


class Line(msgspec.Struct, frozen=True):
    """One request of a batch."""

    custom_id: str
    body: dict[str, Any]


def check_input(path: Path, endpoint: str, times: BatchTimes) -> Checked:
    """Read the file line by line. Blocks: call it on a thread. Raises OSError."""
    if path.stat().st_size > times.max_bytes:
        problem = BatchProblem.model_validate(
            {"code": "file_too_large", "message": f"The input file is larger than {times.max_bytes} bytes."}
        )
        return Checked([], None, [problem])
    reader = _Reader(endpoint)
    with path.open("rb") as lines:
        offset = 0
        for number, raw in enumerate(lines, 1):
            reader.take(raw, offset, number)
            offset += len(raw)
            if len(reader.spans) > times.max_requests:
                limit = times.max_requests
                reader.problem("too_many_tasks", f"The batch has more than the maximum of {limit} requests.", None)
            if reader.is_full:
                break
    if not reader.spans and not reader.problems:
        reader.problem("empty_file", "The input file is empty.", None)
    return Checked(reader.spans, reader.model, reader.problems)


def read_lines(contents: BinaryIO, spans: Sequence[Span]) -> list[Line]:
    """The lines at ``spans``, which were checked before. Blocks: call it on a thread."""
    lines = []
    for span in spans:
        contents.seek(span.start)
        value = jsontext.decode(contents.read(span.length))
        lines.append(Line(value["custom_id"], value["body"]))
    return lines


class _Reader:
    def __init__(self, endpoint: str) -> None:
        self.spans: list[Span] = []
        self.model: str | None = None
        self.problems: list[BatchProblem] = []
        self.is_full = False
        self._endpoint = endpoint
        self._ids: dict[str, int] = {}

    def problem(self, code: str, message: str, line: int | None, param: str | None = None) -> None:
        self.problems.append(BatchProblem(code=code, message=message, line=line, param=param))
        self.is_full = len(self.problems) >= MAX_PROBLEMS or code == "too_many_tasks"

    def take(self, raw: bytes, offset: int, number: int) -> None:
        if not raw.strip():
            return
        try:
            value = None if raw.startswith(_BOM) else jsontext.decode(raw)
        except jsontext.BadJSON:
            value = None
        if not isinstance(value, dict):
            self.problem("invalid_json_line", "This line is not parseable as valid JSON.", number)
            return
        if self._is_request(value, number):
            self.spans.append(Span(offset, len(raw), number))

    def _is_request(self, value: dict[str, Any], number: int) -> bool:
        custom_id, body = value.get("custom_id"), value.get("body")
        for name, expected in (("custom_id", str), ("method", str), ("url", str), ("body", dict)):
            if not isinstance(value.get(name), expected):
                self.problem("missing_required_parameter", f"Missing required parameter: '{name}'.", number, name)
                return False
        if value["method"] != "POST":
            self.problem("invalid_method", f"Invalid method: '{value['method']}'. Expected 'POST'.", number, "method")
            return False
        if value["url"] != self._endpoint:
            message = "The URL provided for this request does not match the batch endpoint."
            self.problem("url_mismatch", message, number, "url")
            return False
        first = self._ids.setdefault(str(custom_id), number)
        if first != number:
            message = f"The custom_id for this request is a duplicate of line {first}. The custom_id must be unique."
            self.problem("duplicate_custom_id", message, number, "custom_id")
            return False
        return self._has_the_model(body if isinstance(body, dict) else {}, number)

    def _has_the_model(self, body: dict[str, Any], number: int) -> bool:
        model = body.get("model")
        if not isinstance(model, str):
            self.problem("missing_required_parameter", "Missing required parameter: 'model'.", number, "body.model")
            return False
        self.model = self.model or model
        if model != self.model:
            message = f"The model '{model}' of this request differs from '{self.model}'. All requests must be for one."
            self.problem("model_mismatch", message, number, "body.model")
            return False
        return True
