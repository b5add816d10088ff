"""The memory source: the contract, and what may be in it."""

from __future__ import annotations

from promptmill.interfaces import Source
from promptmill.models import BadRow, Row
from promptmill.sources.memory import MemorySource, row_of
from promptmill.testing import SourceContract


class TestMemorySource(SourceContract):
    items: list[object]

    def put_texts(self, texts: list[str]) -> None:
        self.items = list(texts)

    def put_bad_between(self) -> bool:
        self.items = ["a", 7, {"prompt": "b"}]
        return True

    def make_source(self) -> Source:
        return MemorySource(iter(self.items))  # type: ignore[arg-type]  # wrong items are the point


def test_rows() -> None:
    assert row_of("x", 3) == Row({"prompt": "x"}, row_of("x", 3).origin)
    assert row_of({"a": 1}, 3).origin.line == 3
    bad = row_of(b"x", 3)
    assert isinstance(bad, BadRow)
    assert (bad.code, bad.message) == ("input_type", "a row is a text or a mapping, not bytes")
