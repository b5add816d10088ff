"""What makes two requests the same: everything that changes the answer, and the id."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

import msgspec

from promptmill.models import Request

DIGEST_BYTES: Final = 16

_encoder = msgspec.msgpack.Encoder()


def prompt_digest(request: Request) -> bytes:
    """Equal for requests that ask the same: operation, messages and parameters."""
    return blake2b(
        _encoder.encode((request.operation, request.messages, request.params)), digest_size=DIGEST_BYTES
    ).digest()
