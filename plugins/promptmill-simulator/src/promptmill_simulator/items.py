"""The grammar of ``--fault`` and ``--batch``: items with commas between, each a word or ``key=value``.

A value with a comma or a quote in it stands in double quotes, with a backslash before each quote or backslash:
``refusal,prompt="say \\"no\\", please"``.
"""

from __future__ import annotations

import re
from typing import Final

_WORD: Final = r"[A-Za-z][A-Za-z0-9_-]*"
_ITEM: Final = re.compile(rf'\s*({_WORD})(?:=("(?:[^"\\]|\\.)*"|[^",]*))?\s*(,|\Z)', re.DOTALL)


def read_items(text: str, what: str, form: str) -> list[tuple[str, str | None]]:
    """The keys and values in ``text``, in order; None is the value of a word that stands alone.

    Args:
        text: what to read.
        what: what it is, for the message.
        form: how such a text looks, for the message.

    Raises:
        ValueError: the text does not follow the grammar.
    """
    items: list[tuple[str, str | None]] = []
    at, more = 0, True
    while more:
        item = _ITEM.match(text, at)
        if item is None:
            raise ValueError(f"{what} {text!r}: cannot read {text[at:]!r}; write {form}")
        word, value, comma = item.group(1), item.group(2), item.group(3)
        items.append((word, None if value is None else _unquoted(value)))
        at, more = item.end(), comma == ","
    return items


def written(value: object) -> str:
    """A value as the grammar has it, in quotes where it needs them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    if re.fullmatch(r"[^\s\",][^\",]*", text) and text == text.strip():
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value.strip()
    return re.sub(r"\\(.)", r"\1", value[1:-1], flags=re.DOTALL)
