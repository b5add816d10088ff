"""What a coordinating process and its workers say to each other: frames of msgpack over a socket of their own.

A worker is a child of the process that talks to it, and nobody else holds an end of the socket. Options and failures
are pickled: their classes belong to plugins.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from promptmill.models import Request, Response


class Setup(msgspec.Struct, frozen=True, array_like=True, tag="setup"):
    """The first one: where modules are found, and the providers to open, as pickled pairs of options and context."""

    path: list[str]
    providers: bytes


class Call(msgspec.Struct, frozen=True, array_like=True, tag="call"):
    """Ask the provider with this place in the setup. ``timeout`` in seconds."""

    number: int
    provider: int
    request: Request
    timeout: float


class Cancel(msgspec.Struct, frozen=True, array_like=True, tag="cancel"):
    """Nobody waits for this call any longer."""

    number: int


class Ready(msgspec.Struct, frozen=True, array_like=True, tag="ready"):
    """All providers are open."""


class Broken(msgspec.Struct, frozen=True, array_like=True, tag="broken"):
    """They cannot be opened."""

    reason: str


class Answered(msgspec.Struct, frozen=True, array_like=True, tag="answered"):
    """A call was answered."""

    number: int
    response: Response


class Failed(msgspec.Struct, frozen=True, array_like=True, tag="failed"):
    """A call raised ``error``, a pickled exception."""

    number: int
    error: bytes


ToWorker: TypeAlias = Setup | Call | Cancel
FromWorker: TypeAlias = Ready | Broken | Answered | Failed

encode: Final = msgspec.msgpack.Encoder().encode
decode_to_worker: Final = msgspec.msgpack.Decoder(ToWorker).decode
decode_from_worker: Final = msgspec.msgpack.Decoder(FromWorker).decode

NOT_ENCODED: Final = (ValueError, OverflowError, TypeError, RecursionError)
"""Raised for a request that cannot be sent: a Python caller's lone surrogate, an integer over 64 bits, an object."""
