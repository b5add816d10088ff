"""What the simulated model says: fast words made from the question's digest, or the question itself.

One word is one output token, so that usage, lengths and ``max_tokens`` always agree.
"""

from __future__ import annotations

import random
from itertools import accumulate
from typing import Annotated, Final, Literal, Protocol, TypeAlias

import msgspec
from pydantic import PlainSerializer, PlainValidator

from promptmill_simulator.distribution import Distribution, parse
from promptmill_simulator.task import Task

AnswerKind: TypeAlias = Literal["words", "echo"]

_LONGEST: Final = 100_000
_PAGE_WORDS: Final = 4096
_VOCABULARY: Final = (
    "a about after again air all also an and answer any are around as at away back be because been before below "
    "between both but by came can change come could day did different do does down each earth end even every far "
    "few find first follow for found from get give go good great group hand has have he help her here high him "
    "his home house how if important in into is it its just keep kind know land large last late learn left letter "
    "life light like line list little live long look made make man many may me mean men might more most mother "
    "move much must my name near need never new night no not now number of off often old on once one only or "
    "other our out over own page paper part people picture place plant play point put question quick read right "
    "river room run said same saw say sea second see sentence set should show side small so some song soon sound "
    "spell stand start state still story study such take tell ten than that the their them then there these they "
    "thing think this thought three through time to together too took tree turn two under until up us use very "
    "want was water way we well went were what when where which while white who why will with without word work "
    "world would write year you young your"
)


class Answer(msgspec.Struct, frozen=True):
    """What was said. Token counts are the model's own."""

    text: str
    finish_reason: Literal["stop", "length"]
    input_tokens: int
    output_tokens: int


class AnswerSource(Protocol):
    """Answers tasks that ask for text."""

    async def answer(self, task: Task, choice: int) -> Answer:
        """Answer ``task``; ``choice`` counts from 0 when several answers to one question are asked for."""
        ...


class Words:
    """Answers with words. The text and its length follow from the digest of the task alone."""

    def __init__(self, lengths: Distribution) -> None:
        self._lengths = lengths
        # The page is the same for every seed; the digest says where on it an answer starts.
        words = random.Random(0).choices(_VOCABULARY.split(), k=_PAGE_WORDS)  # noqa: S311
        self._page = " ".join(words) + " "
        self._starts = [0, *accumulate(len(word) + 1 for word in words)]

    async def answer(self, task: Task, choice: int) -> Answer:
        wanted = max(1, min(round(self._lengths.at(task.fraction(0))), _LONGEST))
        limit = task.max_output_tokens
        cut = limit is not None and wanted > limit
        length = limit if cut and limit is not None else wanted
        start = (int.from_bytes(task.digest[8:12], "big") + 977 * choice) % _PAGE_WORDS
        return Answer(self._text(start, length), "length" if cut else "stop", task.input_tokens, length)

    def _text(self, start: int, length: int) -> str:
        end = start + length
        if end <= _PAGE_WORDS:
            return self._page[self._starts[start] : self._starts[end] - 1]
        whole, rest = divmod(end - _PAGE_WORDS, _PAGE_WORDS)
        return (self._page[self._starts[start] :] + self._page * whole + self._page[: self._starts[rest]])[:-1]


class Echo:
    """Answers with the question's text, so that a test can see which answer belongs to which question."""

    async def answer(self, task: Task, choice: int) -> Answer:
        del choice
        words = task.prompt.split(" ")
        limit = task.max_output_tokens
        if limit is not None and len(words) > limit:
            return Answer(" ".join(words[:limit]), "length", task.input_tokens, limit)
        return Answer(task.prompt, "stop", task.input_tokens, len(words))


def parse_lengths(value: object) -> Distribution:
    """Output tokens from ``100``, ``20..200``, ``lognormal:150,0.6`` or a number.

    Raises:
        ValueError: the value is none of these.
    """
    if isinstance(value, Distribution):
        return value
    return parse(str(value).strip(), _count)


def _count(text: str) -> float:
    count = float(text)
    if not 1 <= count <= _LONGEST:
        raise ValueError(f"an answer has 1 to {_LONGEST} tokens, not {text}")
    return count


Lengths = Annotated[Distribution, PlainValidator(parse_lengths), PlainSerializer(str)]
"""A pydantic field type: a distribution of output tokens."""
