"""What makes two requests the same: everything that changes the answer."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

import msgspec

from promptmill.jsontext import encode
from promptmill.models import Request

DIGEST_BYTES: Final = 16

_encoder = msgspec.msgpack.Encoder()


def prompt_digest(request: Request) -> bytes:
    """Equal for requests that ask the same: operation, messages and parameters."""
    return _digest((request.operation, request.messages, request.params))


def request_digest(request: Request) -> bytes:
    """Equal for requests that ask the same in the same way: the prompt, and what routes go by."""
    return _digest((request.operation, request.messages, request.params, request.priority, request.tags))


def _digest(value: object) -> bytes:
    try:
        packed = _encoder.encode(value)
    except (OverflowError, UnicodeEncodeError):  # an integer over 64 bits, a lone surrogate
        packed = encode(value)
    return blake2b(packed, digest_size=DIGEST_BYTES).digest()
