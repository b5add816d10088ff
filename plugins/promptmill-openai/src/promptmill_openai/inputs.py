"""How many tokens the ``input`` of a responses or embeddings body may have, without asking anyone."""

from __future__ import annotations

import math
from typing import Final

from promptmill.interfaces import BYTES_PER_TOKEN
from promptmill.jsontext import JSON

_ATTACHED: Final = frozenset({"image_url", "file_data", "input_audio", "file_url", "encrypted_content"})
"""Members whose text is not read as text."""


def estimated_tokens(value: JSON) -> int:
    """Tokens of all the text in ``value``, however nested; a number is a token id."""
    tokens, size, rest = 0, 0, [value]
    while rest:
        item = rest.pop()
        if isinstance(item, str):
            size += len(item.encode("utf-8", "replace"))
        elif isinstance(item, int):
            tokens += 1
        elif isinstance(item, list):
            rest.extend(item)
        elif isinstance(item, dict):
            rest.extend(member for name, member in item.items() if name not in _ATTACHED)
    return tokens + math.ceil(size / BYTES_PER_TOKEN)
