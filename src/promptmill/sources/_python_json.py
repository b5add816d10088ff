"""JSON as Python writes it by default: with NaN and Infinity, which JSON does not have."""

from __future__ import annotations

import json
from typing import Any, Final

from promptmill import jsontext

_WORDS: Final = (b"NaN", b"Infinity")
_MARK: Final = object()


def decode_python(data: bytes) -> tuple[dict[str, Any], list[str]] | None:
    """An object with null where it has NaN or Infinity, and the names of the columns where that was; None when this is
    not what is wrong with it."""
    if not any(word in data for word in _WORDS):
        return None
    try:
        value = json.loads(data, parse_constant=lambda _: _MARK)
        if not isinstance(value, dict):
            return None
        columns = [name for name, inner in value.items() if _has_mark(inner)]
        # Once more by the way of every row, which looks at depth, numbers and surrogates.
        return jsontext.decode(json.dumps(_without_marks(value), allow_nan=False)), columns
    except (ValueError, RecursionError):
        return None


def _has_mark(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_mark, value.values()))
    return any(map(_has_mark, value)) if isinstance(value, list) else value is _MARK


def _without_marks(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_marks(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_without_marks(inner) for inner in value]
    return None if value is _MARK else value
