"""What clients see when they look at a batch, where that is not what happens to it."""

from __future__ import annotations

import math
import re
from typing import Annotated, Final

import msgspec
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator

_RANGE: Final = re.compile(r"([1-9][0-9]{0,8})(?:(\.\.)([1-9][0-9]{0,8})?)?")


class LookRange(msgspec.Struct, frozen=True):
    """From the first to the last of some looks, counted from 1; the last may be infinite."""

    first: int
    last: float

    def __contains__(self, look: int) -> bool:
        return self.first <= look <= self.last

    def __str__(self) -> str:
        """The text that :func:`parse_looks` reads."""
        return f"{self.first}..{'' if math.isinf(self.last) else self.last}"


def parse_looks(value: object) -> LookRange:
    """Read ``2`` (the second), ``1..3`` (the first three) or ``4..`` (the fourth and all after it).

    Raises:
        ValueError: the value is none of these.
    """
    if isinstance(value, LookRange):
        return value
    found = _RANGE.fullmatch(str(value).strip())
    if found is None:
        raise ValueError(f"{value!r} is no range of looks; write 2, 1..3 or 4.. for ever")
    first, dots, last = int(found[1]), found[2], found[3]
    if last is not None and int(last) < first:
        raise ValueError(f"{value!r} runs backwards; write the smaller number first")
    return LookRange(first, int(last) if last is not None else math.inf if dots else first)


Looks = Annotated[LookRange, PlainValidator(parse_looks), PlainSerializer(str)]
"""A pydantic field type: which looks, counted from 1."""


class BatchLooks(BaseModel):
    """Replies about a batch that are not true, or not useful. Looks at each batch are counted on their own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    not_found: Looks | None = Field(None, description="Looks that get 404: 2, 1..3 or 4.. (for ever).")
    odd_status: Looks | None = Field(None, description="Looks that show a status nobody knows.")
    odd_word: str = Field("paused", description="That status.")
    unlisted: Looks | None = Field(None, description="Lists that leave the batch out.")

    def finds(self, look: int) -> bool:
        """Whether the nth look gets the batch."""
        return self.not_found is None or look not in self.not_found

    def lists(self, look: int) -> bool:
        """Whether the nth list has the batch in it."""
        return self.unlisted is None or look not in self.unlisted

    def shown(self, look: int, status: str) -> str:
        """The status the nth look shows."""
        return self.odd_word if self.odd_status is not None and look in self.odd_status else status
