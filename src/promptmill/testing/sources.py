"""The contract of a source."""

from __future__ import annotations

import pytest

from promptmill import jsontext
from promptmill.interfaces import Source
from promptmill.models import BadRow, Row
from promptmill.testing.contract import Contract


class SourceContract(Contract):
    """Subclass it, name it ``Test...``, and override the ``put_...`` methods; :meth:`make_source` without options.

    Each ``put_...`` method fills the target that :meth:`make_source` reads, replacing what was there.
    """

    def make_source(self) -> Source:
        source = self.build()
        assert isinstance(source, Source)
        return source

    def put_texts(self, texts: list[str]) -> None:
        """Fill the target with one row a text, in a column ``prompt``."""
        raise TypeError(f"{type(self).__name__!r} must say how to fill the source: override put_texts()")

    def put_bad_between(self) -> bool:
        """Fill the target with a good row, one that cannot be read, and a good row; False when none can be bad."""
        return False

    async def _read(self, source: Source) -> list[Row | BadRow]:
        return [row async for group in source.rows() for row in group]

    async def test_rows_in_order(self) -> None:
        texts = [f"question {number}" for number in range(1500)]
        self.put_texts(texts)
        async with self.make_source() as source:
            rows = await self._read(source)
        assert [row.columns["prompt"] if isinstance(row, Row) else row.code for row in rows] == texts

    async def test_columns_are_json(self) -> None:
        self.put_texts(["a"])
        async with self.make_source() as source:
            (row,) = await self._read(source)
        assert isinstance(row, Row)
        assert jsontext.decode(jsontext.encode(row.columns)) == row.columns

    async def test_second_pass_is_the_same(self) -> None:
        self.put_texts(["a", "b", "c"])
        async with self.make_source() as source:
            assert await self._read(source) == await self._read(source)

    async def test_pass_given_up_half_way(self) -> None:
        self.put_texts([str(number) for number in range(5000)])
        async with self.make_source() as source:
            passing = source.rows()
            first = (await anext(passing))[0]
            close = getattr(passing, "aclose", None)
            if close is not None:
                await close()
            assert (await self._read(source))[0] == first

    async def test_groups_are_not_empty(self) -> None:
        self.put_texts(["a", "b", "c"])
        async with self.make_source() as source:
            sizes = [len(group) async for group in source.rows()]
        assert 0 not in sizes
        assert sum(sizes) == 3

    async def test_empty_source(self) -> None:
        self.put_texts([])
        async with self.make_source() as source:
            assert await self._read(source) == []
            assert await source.fingerprint()

    async def test_bad_row_does_not_end_it(self) -> None:
        if not self.put_bad_between():
            pytest.skip("no row of this source can be bad")
        async with self.make_source() as source:
            rows = await self._read(source)
        assert [type(row) for row in rows] == [Row, BadRow, Row]
        (bad,) = [row for row in rows if isinstance(row, BadRow)]
        assert bad.code
        assert bad.message

    async def test_fingerprint_follows_the_content(self) -> None:
        prints = []
        for texts in (["a", "b"], ["a", "b"], ["b", "a"], ["a", "b", ""], []):
            self.put_texts(texts)
            async with self.make_source() as source:
                prints.append(await source.fingerprint())
                assert await source.fingerprint() == prints[-1]
        assert prints[0] == prints[1]
        assert len(set(prints)) == 4

    async def test_fingerprint_does_not_disturb_a_pass(self) -> None:
        self.put_texts([str(number) for number in range(5000)])
        async with self.make_source() as source:
            expected = await self._read(source)
            seen: list[Row | BadRow] = []
            async for group in source.rows():
                await source.fingerprint()
                seen += group
        assert seen == expected

    async def test_closes_without_reading_and_twice(self) -> None:
        self.put_texts(["a"])
        source = self.make_source()
        async with source:
            pass
        await source.aclose()
        await self.make_source().aclose()
        async with self.make_source() as again:
            assert len(await self._read(again)) == 1
