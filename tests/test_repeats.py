"""Numbers that occur more than once."""

from __future__ import annotations

from collections import Counter

import anyio
from hypothesis import given
from hypothesis import strategies as st

from promptmill._repeats import Repeats

NUMBERS = st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-300, 300), max_size=200)


@given(numbers=NUMBERS)
def test_those_that_occur_more_than_once(numbers: list[int]) -> None:
    expected = {number for number, count in Counter(numbers).items() if count > 1}
    assert anyio.run(Repeats(numbers).found) == expected


@given(ones=NUMBERS, others=NUMBERS)
def test_whether_two_have_one_in_common(ones: list[int], others: list[int]) -> None:
    assert anyio.run(Repeats(ones).meets, Repeats(others)) == bool(set(ones) & set(others))


async def test_others_have_their_turn_meanwhile() -> None:
    numbers = Repeats(hash(str(number)) for number in range(10_000))
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await anyio.sleep(0)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take_turns)
        assert await numbers.found() == set()
        assert turns > 100
        turns = 0
        assert not await numbers.meets(Repeats([1]))
        assert turns > 100
        tasks.cancel_scope.cancel()
