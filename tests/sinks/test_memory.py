"""The memory sink keeps to the contract."""

from __future__ import annotations

from collections.abc import Sequence

from promptmill.interfaces import Sink
from promptmill.sinks.memory import MemorySink, MemorySinkOptions
from promptmill.testing import SinkContract, result


class TestMemorySink(SinkContract):
    options_class = MemorySinkOptions
    sink: MemorySink | None = None

    def make_sink(self) -> Sink:
        self.sink = self.sink or self.build()
        return self.sink

    def rows(self) -> Sequence[tuple[str, str | None]]:
        return [(one.id, one.text) for one in (self.sink or MemorySink()).results]

    def make_foreign(self) -> bool:
        self.sink = MemorySink()
        self.sink.results.append(result())
        return True

    def lose(self) -> None:
        self.sink = MemorySink()
