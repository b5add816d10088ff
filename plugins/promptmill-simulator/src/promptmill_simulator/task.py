"""A request for a model, read and checked: what answers, limits, faults and the ledger work on."""

from __future__ import annotations

import hashlib
import math
from typing import Any, Final

import msgspec

CHARACTERS_PER_TOKEN: Final = 4
"""The simulator counts input tokens by characters (source: the rule of thumb in the official rate limit guide)."""

_SPAN: Final = 1 << 64


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """``digest`` is 32 bytes made of the seed and what was asked, so that equal questions get equal answers."""

    operation: str
    model: str
    prompt: str
    digest: bytes
    input_tokens: int
    max_output_tokens: int | None
    body: dict[str, Any]

    def fraction(self, lane: int) -> float:
        """One of four independent numbers from 0 to 1 that belong to this task; ``lane`` is 0 to 3."""
        return int.from_bytes(self.digest[lane * 8 : lane * 8 + 8], "big") / _SPAN

    @property
    def name(self) -> str:
        """What the ledger calls the question: 16 hexadecimal digits."""
        return self.digest[:8].hex()


class Digester:
    """Makes digests that depend on the seed."""

    def __init__(self, seed: int) -> None:
        self._key = str(seed).encode()[:64]

    def digest(self, content: bytes) -> bytes:
        """32 bytes that depend on ``content`` and the seed."""
        return hashlib.blake2b(content, digest_size=32, key=self._key).digest()

    def fraction(self, content: bytes) -> float:
        """A number from 0 to 1 that depends on ``content`` and the seed."""
        return int.from_bytes(hashlib.blake2b(content, digest_size=8, key=self._key).digest(), "big") / _SPAN


def count_tokens(text: str) -> int:
    """Tokens of ``text`` as the simulator counts its input: characters / 4, rounded up."""
    return math.ceil(len(text) / CHARACTERS_PER_TOKEN)
