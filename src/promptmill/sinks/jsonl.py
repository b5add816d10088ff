"""Sink ``jsonl``: one result record a line, JSON in UTF-8."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from promptmill import jsontext
from promptmill.hookspecs import hookimpl
from promptmill.models import Result
from promptmill.options import BuildContext, SinkOptions
from promptmill.sinks._appending import AppendingSink

if TYPE_CHECKING:
    from promptmill.options import Register


class JsonlSink(AppendingSink):
    """Lines end with a newline byte. Text is not escaped beyond what JSON asks for: split on newline bytes only."""

    def encode(self, results: Sequence[Result]) -> bytes:
        return b"".join([jsontext.encode(result) + b"\n" for result in results])


class JsonlSinkOptions(SinkOptions):
    path: str = Field(min_length=1, description="The file to write, relative to the job file.")

    def build(self, context: BuildContext) -> JsonlSink:
        return JsonlSink(context.base_dir / self.path)


@hookimpl
def register_sink(register: Register) -> None:
    register("jsonl", JsonlSinkOptions)
