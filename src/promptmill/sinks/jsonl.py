"""Sink ``jsonl``: one result record a line, JSON in UTF-8."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec
from pydantic import Field

from promptmill import jsontext
from promptmill.hookspecs import hookimpl
from promptmill.models import Result
from promptmill.options import BuildContext, SinkOptions
from promptmill.sinks._altered import SURROGATE
from promptmill.sinks._appending import AppendingSink

if TYPE_CHECKING:
    from promptmill.options import Register


_REPLACEMENT: Final = jsontext.REPLACEMENT.encode()


class JsonlSink(AppendingSink):
    """Lines end with a newline byte. Text is not escaped beyond what JSON asks for: split on newline bytes only."""

    def encode(self, results: Sequence[Result]) -> bytes:
        lines = [jsontext.encode(result) for result in results]
        for line, result in zip(lines, results, strict=True):
            if _REPLACEMENT in line and not _is_text(result):
                self.altered(SURROGATE)
        return b"".join([line + b"\n" for line in lines])


def _is_text(result: Result) -> bool:
    try:
        msgspec.json.encode(result)
    except UnicodeEncodeError:
        return False
    return True


class JsonlSinkOptions(SinkOptions):
    path: str = Field(min_length=1, description="The file to write, relative to the job file.")

    def build(self, context: BuildContext) -> JsonlSink:
        return JsonlSink(context.base_dir / self.path)


@hookimpl
def register_sink(register: Register) -> None:
    register("jsonl", JsonlSinkOptions)
