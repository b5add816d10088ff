"""How much a template may do for one row, and how values become text.

A row's data or a careless template must not be able to take the memory or the time of the run: every operation that
can make something big says beforehand how big, and the sum is limited. Fault D8 of the reliability notes.
"""

from __future__ import annotations

from typing import Any, Final

from jinja2.runtime import Context, Undefined

from promptmill import jsontext

MAX_TEXT: Final = 4 * 1024 * 1024
"""Characters of the longest text a template may make."""

MAX_WORK: Final = 32 * 1024 * 1024
"""Work all templates of one row may do: characters gone through, an item counting as 8 and a loop's step as 64 of
them. Some tenths of a second."""

ITEM_WORK: Final = 8
STEP_WORK: Final = 64

MAX_INT_BITS: Final = 4096
"""Longest number arithmetic may give; Python prints no more than 4,300 digits anyway."""

WORK_KEY: Final = " work"
"""Where a render context keeps its :class:`Work`: no column or variable of a template can have this name in it."""


class TooMuch(Exception):
    """The template would do more than is allowed."""


class NullValue(Exception):
    """A null was about to become text."""


class Work:
    """What the templates of one row have left to spend."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = MAX_WORK

    def spend(self, amount: int) -> None:
        """Account for going through ``amount`` characters."""
        self._left -= amount
        if self._left < 0:
            raise TooMuch(f"takes too long for one row (it goes through more than {MAX_WORK} characters)")

    def make_text(self, length: int) -> None:
        """Account for a new text of ``length`` characters, before it is made."""
        if length > MAX_TEXT:
            raise TooMuch(f"makes a text of {length} characters, more than {MAX_TEXT}")
        self.spend(length)


def work_of(context: Context) -> Work:
    """The account of the render this context belongs to."""
    work: Work = context.resolve_or_missing(WORK_KEY)
    return work


def size_of(value: Any) -> int:
    """The work of going through a value once."""
    if isinstance(value, str):
        return len(value)
    return ITEM_WORK * len(value) if isinstance(value, list | tuple | dict) else 1


def text_of(value: Any, work: Work) -> str:
    """The text a value becomes in a template: JSON for everything that is not text.

    Raises:
        NullValue: the value is null.
        TooMuch: the text would be too long.
        TypeError: the value is no data (a method, a loop).
    """
    if isinstance(value, str):
        work.make_text(len(value))
        return value
    if value is None:
        raise NullValue
    if isinstance(value, Undefined):
        return str(value)  # which raises, naming the variable
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list | tuple | dict):
        return json_of(value, work)
    raise TypeError(f"a {type(value).__name__} is not text; for a column of that name write row['name']")


def json_of(value: Any, work: Work) -> str:
    """Compact JSON of data made of JSON types."""
    length = 0
    rest = [value]
    while rest:
        one = rest.pop()
        length += len(one) if isinstance(one, str) else 1
        work.spend(ITEM_WORK)
        if length > MAX_TEXT:
            raise TooMuch(f"makes a text of more than {MAX_TEXT} characters")
        if isinstance(one, Undefined):
            str(one)
        if isinstance(one, dict):
            rest += one.values()
            rest += one.keys()
        elif isinstance(one, list | tuple):
            rest += one
    text = jsontext.encode(value).decode()
    work.make_text(len(text))
    return text
