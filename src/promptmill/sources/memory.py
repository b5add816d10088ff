"""A source of things already in this process: texts, mappings and lists of them. Not named in job files."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Final, TypeAlias

from promptmill import jsontext
from promptmill.interfaces import Source
from promptmill.jsontext import JSON
from promptmill.models import BadRow, Origin, Row

Item: TypeAlias = str | Mapping[str, JSON]

_GROUP_ROWS: Final = 512


class MemorySource(Source):
    """Rows from ``items``: a text is a row with the one column ``prompt``, a mapping is a row.

    The items are kept, since a source is read more than once; what is not kept belongs into the stream of the
    Python API. Anything else among them becomes a BadRow with the code ``input_type``.
    """

    def __init__(self, items: Iterable[Item]) -> None:
        self._items = list(items)

    async def rows(self) -> AsyncIterator[Sequence[Row | BadRow]]:
        for start in range(0, len(self._items), _GROUP_ROWS):
            group = self._items[start : start + _GROUP_ROWS]
            yield [row_of(item, start + at + 1) for at, item in enumerate(group)]

    async def fingerprint(self) -> str:
        """Hash of the rows as JSON."""
        whole = hashlib.blake2b(digest_size=16)
        async for group in self.rows():
            for row in group:
                content = row.columns if isinstance(row, Row) else row.message
                whole.update(jsontext.encode(content) + b"\n")
        return whole.hexdigest()


def row_of(item: object, number: int) -> Row | BadRow:
    """One item as the row with the 1-based ``number``."""
    origin = Origin(line=number)
    if isinstance(item, str):
        return Row({"prompt": item}, origin)
    if isinstance(item, Mapping):
        return Row(item, origin)
    return BadRow("input_type", f"a row is a text or a mapping, not {type(item).__name__}", origin)
