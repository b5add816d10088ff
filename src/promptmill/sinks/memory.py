"""Sink ``memory``: keeps the results in a list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from promptmill.errors import StorageError
from promptmill.hookspecs import hookimpl
from promptmill.interfaces import Position, Sink
from promptmill.models import Result
from promptmill.options import BuildContext, SinkOptions

if TYPE_CHECKING:
    from promptmill.options import Register


class MemorySink(Sink):
    """For tests and the Python API. ``results`` outlives the run and may be read at any time."""

    def __init__(self) -> None:
        self.results: list[Result] = []

    async def start(self, position: Position | None) -> None:
        """Refuse a list that is not empty (``position`` is None) or shorter than its position (E0610, E0611)."""
        if position is None and self.results:
            raise StorageError(
                f"the memory sink holds {len(self.results)} results of another run",
                code="E0610",
                hint="use a new MemorySink for each run",
            )
        length = 0 if position is None else int(position.get("results", 0))
        if len(self.results) < length:
            raise StorageError(
                f"the memory sink holds {len(self.results)} results, and {length} were committed",
                code="E0611",
                hint="a memory sink cannot be resumed in another process: use a file",
            )
        del self.results[length:]

    async def write(self, results: Sequence[Result]) -> None:
        self.results.extend(results)

    async def commit(self) -> Position:
        return {"results": len(self.results)}


class MemorySinkOptions(SinkOptions):
    def build(self, context: BuildContext) -> MemorySink:  # noqa: ARG002 - the signature of every build
        return MemorySink()


@hookimpl
def register_sink(register: Register) -> None:
    register("memory", MemorySinkOptions)
