"""The contract of a sink."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import pytest

from promptmill import jsontext
from promptmill.errors import StorageError
from promptmill.interfaces import Position, Sink
from promptmill.models import ErrorInfo, Result, Usage
from promptmill.testing.contract import Contract
from promptmill.testing.records import result

HOSTILE: Final = (
    "quotes \" and ' and commas, and \\ backslashes",
    "line\nbreak, carriage\rreturn, both\r\n, tab\t",
    "separators \u2028 \u2029 \x85 \x0b \x0c \x1c",
    "nul \x00 and escape \x1b[31m",
    "=1+1, then @SUM(A1) and \u202ebidi",
    "emoji \U0001f9ea and combining e\u0301",
    "{{ 7 * 7 }} <script>alert(1)</script> [red]",
    "   ",
    "",
)
"""Texts a sink must bring back unchanged."""


class SinkContract(Contract):
    """Subclass it, name it ``Test...``, and override :meth:`rows`; also :meth:`make_sink` without an options class.

    Each call of :meth:`make_sink` in one test must give a new sink on the same, at first untouched target.
    """

    def make_sink(self) -> Sink:
        sink = self.build()
        assert isinstance(sink, Sink)
        return sink

    def rows(self) -> Sequence[tuple[str, str | None]]:
        """``(id, text)`` of each result a reader of the target sees, in order."""
        raise TypeError(f"{type(self).__name__!r} must say how to read the target: override rows()")

    def make_foreign(self) -> bool:
        """Put something that is not ours into the target; False when there is no such thing for this sink."""
        return False

    def make_unwritable(self) -> Sink | None:
        """A sink whose target cannot be opened; None when there is no way to make one."""
        return None

    async def _run(self, *groups: Sequence[Result], position: Position | None = None) -> Position:
        async with self.make_sink() as sink:
            await sink.start(position)
            for group in groups:
                await sink.write(group)
            return await sink.commit()

    async def test_committed_results_are_there(self) -> None:
        await self._run([result("a", id="1"), result("b", id="2")], [result(None, id="3", status="failed")])
        assert list(self.rows()) == [("1", "a"), ("2", "b"), ("3", None)]

    async def test_goes_on_behind_a_position(self) -> None:
        position = await self._run([result("a", id="1")])
        await self._run([result("b", id="2")], position=position)
        assert list(self.rows()) == [("1", "a"), ("2", "b")]

    async def test_uncommitted_results_are_dropped_on_restart(self) -> None:
        async with self.make_sink() as sink:
            await sink.start(None)
            await sink.write([result("a", id="1")])
            position = await sink.commit()
            await sink.write([result("lost", id="2")])
        await self._run([result("b", id="2")], position=position)
        assert list(self.rows()) == [("1", "a"), ("2", "b")]

    async def test_older_position_drops_later_commits(self) -> None:
        async with self.make_sink() as sink:
            await sink.start(None)
            await sink.write([result("a", id="1")])
            first = await sink.commit()
            await sink.write([result("b", id="2")])
            await sink.commit()
        await self._run([result("c", id="3")], position=first)
        assert list(self.rows()) == [("1", "a"), ("3", "c")]

    async def test_empty_position_starts_from_nothing(self) -> None:
        """A run that was killed before its first commit begins anew over what it wrote."""
        async with self.make_sink() as sink:
            await sink.start(None)
            await sink.write([result("lost", id="1")])
        await self._run([result("a", id="1")], position={})
        assert list(self.rows()) == [("1", "a")]

    async def test_opens_again_after_closing(self) -> None:
        """The engine closes a sink that failed and opens the same object behind its last commit."""
        sink = self.make_sink()
        async with sink:
            await sink.start(None)
            await sink.write([result("a", id="1")])
            position = await sink.commit()
            await sink.write([result("unknown", id="2")])
        async with sink:
            await sink.start(position)
            await sink.write([result("b", id="2")])
            await sink.commit()
        assert list(self.rows()) == [("1", "a"), ("2", "b")]

    async def test_set_aside_makes_room(self) -> None:
        places = []
        for text in ("a", "b", "c"):
            async with self.make_sink() as sink:
                places.append(await sink.set_aside())
                if text != "a" and places[-1] is None:
                    pytest.skip("this sink cannot set anything aside")
                await sink.start(None)
                await sink.write([result(text, id="1")])
                await sink.commit()
            assert list(self.rows()) == [("1", text)]
        assert places[0] is None
        assert places[1] != places[2]

    async def test_recovery_can_be_repeated(self) -> None:
        position = await self._run([result("a", id="1")])
        for _ in range(3):
            assert await self._run(position=position) == position
        assert list(self.rows()) == [("1", "a")]

    async def test_position_of_an_empty_run(self) -> None:
        position = await self._run()
        await self._run([result("a", id="1")], position=position)
        assert list(self.rows()) == [("1", "a")]

    async def test_position_is_json(self) -> None:
        position = await self._run([result()])
        assert isinstance(position, Mapping)
        assert jsontext.decode(jsontext.encode(position)) == position

    async def test_commit_without_news_changes_nothing(self) -> None:
        async with self.make_sink() as sink:
            await sink.start(None)
            await sink.write([result("a", id="1")])
            first = await sink.commit()
            assert await sink.commit() == first

    async def test_empty_group(self) -> None:
        await self._run([], [result("a", id="1")], [])
        assert list(self.rows()) == [("1", "a")]

    async def test_hostile_text_comes_back(self) -> None:
        await self._run([result(text, id=str(number)) for number, text in enumerate(HOSTILE)])
        assert list(self.rows()) == [(str(number), text) for number, text in enumerate(HOSTILE)]

    async def test_looking_first_changes_nothing(self) -> None:
        await self.make_sink().probe(None)
        position = await self._run([result("a", id="1")])
        await self.make_sink().probe(position)
        await self._run([result("b", id="2")], position=position)
        assert list(self.rows()) == [("1", "a"), ("2", "b")]

    async def test_lone_surrogates_do_not_break_it(self) -> None:
        await self._run([result("half \ud83e of a pair", id="1"), result("b", id="2")])
        assert [row_id for row_id, _ in self.rows()] == ["1", "2"]

    async def test_full_record(self) -> None:
        error = ErrorInfo(code="bad_request", message='no "such" thing\n', http_status=400)
        full = Result(
            id="1",
            index=7,
            status="failed",
            provider="fast",
            model="m",
            tier="realtime",
            attempts=2,
            latency_s=0.25,
            usage=Usage(input_tokens=3),
            cost_usd=0.001,
            error=error,
            meta={"label": "x", "nested": {"a": [1, None]}},
        )
        await self._run([full])
        assert [row_id for row_id, _ in self.rows()] == ["1"]

    async def test_foreign_content_is_refused(self) -> None:
        if not self.make_foreign():
            pytest.skip("nothing foreign can be in the target")
        async with self.make_sink() as sink:
            with pytest.raises(StorageError) as caught:
                await sink.start(None)
        assert caught.value.hint

    async def test_lost_target_is_refused(self) -> None:
        """A position behind the end of what is there means that committed results are gone."""
        position = await self._run([result("a", id="1")])
        self.lose()
        async with self.make_sink() as sink:
            with pytest.raises(StorageError):
                await sink.start(position)

    def lose(self) -> None:
        """Take the committed content away from the target."""
        pytest.skip("the target cannot lose its content")

    async def test_unwritable_target_is_a_storage_error(self) -> None:
        sink = self.make_unwritable() or pytest.skip("no unwritable target to test with")
        async with sink:
            with pytest.raises(StorageError):
                await sink.start(None)

    async def test_closes_without_start_and_twice(self) -> None:
        sink = self.make_sink()
        async with sink:
            pass
        await sink.aclose()
        await self.make_sink().aclose()
        await self._run([result("a", id="1")])
        assert list(self.rows()) == [("1", "a")]
