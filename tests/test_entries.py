"""What the Python API takes as prompts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import date
from typing import Any

import anyio
import pytest

from promptmill._entries import GROUP, entries_of, request_of
from promptmill._frames import rows_of_frame
from promptmill._template import InputTemplate
from promptmill.errors import InputError
from promptmill.models import Message, Request


async def requests(prompts: Any) -> list[Request]:
    return [entry async for group in entries_of(prompts) for entry in group if isinstance(entry, Request)]


async def test_texts_get_their_position_as_id() -> None:
    found = await requests(["a", "b"])
    assert found == [
        Request(id="1", index=0, messages=(Message("user", "a"),)),
        Request(id="2", index=1, messages=(Message("user", "b"),)),
    ]


async def test_mappings_are_rows() -> None:
    given = {"id": "x", "prompt": "p", "params": {"temperature": 0}}
    (found,) = await requests([given])
    assert (found.id, found.index, found.messages) == ("x", 0, (Message("user", "p"),))
    assert given == {"id": "x", "prompt": "p", "params": {"temperature": 0}}


async def test_a_text_is_no_template() -> None:
    found = await requests(["{{ 7 * 6 }}", {"prompt": "{{ 7 * 6 }}"}])
    assert [one.messages[0].text for one in found] == ["{{ 7 * 6 }}"] * 2


async def test_requests_keep_everything_but_their_index() -> None:
    given = [Request(id="a", index=7, tags=("t",)), Request(id="b", index=1)]
    found = await requests(given)
    assert [(one.id, one.index, one.tags) for one in found] == [("a", 0, ("t",)), ("b", 1, ())]
    assert found[1] is given[1]
    assert given[0].index == 7


async def test_an_async_iterable_is_not_read_ahead() -> None:
    taken = []

    async def later() -> AsyncIterator[str]:
        for at in range(3):
            taken.append(at)
            yield str(at)

    stream = entries_of(later())
    assert len(await anext(stream)) == 1
    assert taken == [0]
    assert len([group async for group in stream]) == 2


async def test_a_plain_iterable_is_read_in_groups_that_let_others_run() -> None:
    def endless() -> Iterator[str]:
        while True:
            yield "x"

    seen = 0
    with anyio.CancelScope() as scope:
        async for group in entries_of(endless()):
            assert len(group) == GROUP
            seen += 1
            if seen == 3:
                scope.cancel()
    assert seen == 3
    assert scope.cancelled_caught


async def test_nothing_gives_nothing() -> None:
    assert await requests([]) == []


@pytest.mark.parametrize("prompt", ["one text", {"prompt": "one mapping"}])
async def test_one_prompt_is_not_many(prompt: Any) -> None:
    with pytest.raises(InputError, match="not one prompt") as caught:
        await requests(prompt)
    assert caught.value.code == "E0330"


@pytest.mark.parametrize(
    ("prompt", "said"), [(5, "is a int"), ({"question": "?"}, "cannot be sent"), (None, "NoneType")]
)
def test_what_cannot_be_sent_is_named_by_position(prompt: Any, said: str) -> None:
    with pytest.raises(InputError, match=f"prompt 3 .*{said}") as caught:
        request_of(prompt, 2, InputTemplate())
    assert caught.value.code == "E0330"


class PandasLike:
    """What a pandas data frame can do, and what iterating over it gives."""

    columns = ("id", "prompt", "params", 7)

    def __init__(self, *rows: tuple[Any, ...]) -> None:
        self._rows = rows

    def __iter__(self) -> Iterator[Any]:
        return iter(self.columns)

    def itertuples(self, *, index: bool, name: str | None) -> Iterator[tuple[Any, ...]]:
        assert not index
        assert name is None
        return iter(self._rows)


class Scalar:
    """As NumPy has it."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def tolist(self) -> Any:
        return self._value


async def test_a_data_frame_is_its_rows() -> None:
    frame = PandasLike(
        (Scalar(1), "a", {"seed": Scalar(3)}, date(2026, 1, 2)),
        (2, "b", float("nan"), float("nan")),
        (Scalar("x"), "c", None, [1.5, Scalar([2])]),
    )
    found = await requests(frame)
    assert [(one.id, one.messages[0].text, one.params) for one in found] == [
        ("1", "a", {"seed": 3}),
        ("2", "b", {}),
        ("x", "c", {}),
    ]
    rows = list(rows_of_frame(frame) or ())
    assert [row["7"] for row in rows] == ["2026-01-02", None, [1.5, [2]]]


async def test_a_frame_that_can_only_be_collected_is_refused() -> None:
    class LazyFrame:
        columns = ("prompt",)

        def collect(self) -> None: ...

        def __iter__(self) -> Iterator[str]:
            return iter(self.columns)

    with pytest.raises(InputError, match="LazyFrame cannot be had") as caught:
        await requests(LazyFrame())
    assert caught.value.code == "E0330"


@pytest.mark.parametrize("prompts", [["a"], ("a",), iter(["a"]), {"a"}, range(1)])
def test_other_iterables_are_no_frames(prompts: Any) -> None:
    assert rows_of_frame(prompts) is None


async def test_frames_of_pyarrow() -> None:
    pa = pytest.importorskip("pyarrow")
    frame = pa.table({"id": [1, 2], "prompt": ["a", "b"]})
    assert [(one.id, one.messages[0].text) for one in await requests(frame)] == [("1", "a"), ("2", "b")]


async def test_frames_of_pandas() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"id": [1, 2], "prompt": ["a", "b"], "n": [1.5, None], "t": [pd.Timestamp(0), pd.NaT]})
    assert [(one.id, one.messages[0].text) for one in await requests(frame)] == [("1", "a"), ("2", "b")]
    assert list(rows_of_frame(frame) or ())[1] == {"id": 2, "prompt": "b", "n": None, "t": None}
    assert [one.messages[0].text for one in await requests(frame["prompt"])] == ["a", "b"]


async def test_frames_of_polars() -> None:
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame({"id": [1, 2], "prompt": ["a", "b"], "l": [[1], [2, 3]], "d": [date(2026, 1, 2)] * 2})
    assert [(one.id, one.messages[0].text) for one in await requests(frame)] == [("1", "a"), ("2", "b")]
    assert list(rows_of_frame(frame) or ())[1] == {"id": 2, "prompt": "b", "l": [2, 3], "d": "2026-01-02"}
    assert [one.messages[0].text for one in await requests(frame["prompt"])] == ["a", "b"]
    with pytest.raises(InputError, match="LazyFrame"):
        await requests(frame.lazy())
