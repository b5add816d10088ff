from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptmill_simulator.answers import Echo, Words, parse_lengths
from promptmill_simulator.task import Digester, Task


def task(prompt: str, *, seed: int = 0, max_tokens: int | None = None) -> Task:
    return Task(
        operation="chat",
        model="m",
        prompt=prompt,
        digest=Digester(seed).digest(prompt.encode()),
        input_tokens=5,
        max_output_tokens=max_tokens,
        body={},
    )


async def test_equal_questions_get_equal_answers() -> None:
    words = Words(parse_lengths("16..64"))
    assert await words.answer(task("a"), 0) == await words.answer(task("a"), 0)
    assert await words.answer(task("a"), 0) != await words.answer(task("b"), 0)
    assert await words.answer(task("a"), 0) != await words.answer(task("a", seed=1), 0)
    assert (await words.answer(task("a"), 0)).text != (await words.answer(task("a"), 1)).text


async def test_one_word_is_one_token_at_any_place_and_length() -> None:
    for length in (1, 17, 4095, 4096, 4097, 20_000):
        words = Words(parse_lengths(str(length)))
        for prompt in ("a", "b", "c"):
            answer = await words.answer(task(prompt), 0)
            parts = answer.text.split(" ")
            assert all(parts)
            assert (len(parts), answer.output_tokens) == (length, length)


async def test_max_tokens_cuts_the_answer() -> None:
    words = Words(parse_lengths("50"))
    whole, cut = await words.answer(task("a"), 0), await words.answer(task("a", max_tokens=7), 0)
    assert (cut.finish_reason, cut.output_tokens, len(cut.text.split(" "))) == ("length", 7, 7)
    assert whole.text.startswith(cut.text)
    assert (await words.answer(task("a", max_tokens=50), 0)).finish_reason == "stop"


async def test_lengths_spread_as_asked() -> None:
    words = Words(parse_lengths("10..20"))
    lengths = {(await words.answer(task(str(number)), 0)).output_tokens for number in range(300)}
    assert lengths == set(range(10, 21))


@pytest.mark.parametrize(("limit", "text", "reason"), [(None, "one two three", "stop"), (2, "one two", "length")])
async def test_echo_says_the_question(limit: int | None, text: str, reason: str) -> None:
    answer = await Echo().answer(task("one two three", max_tokens=limit), 0)
    assert (answer.text, answer.finish_reason) == (text, reason)


@given(st.text(), st.integers(0, 2**70))
def test_fractions_are_fractions(text: str, seed: int) -> None:
    made = task(text, seed=seed)
    assert all(0 <= made.fraction(lane) < 1 for lane in range(4))
