"""What makes two requests the same: everything that changes the answer."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

import msgspec

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
    return blake2b(_encoder.encode(value), digest_size=DIGEST_BYTES).digest()
