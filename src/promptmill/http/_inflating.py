"""Decompressing replies without ever holding more than was asked for."""

from __future__ import annotations

import zlib
from typing import Final

import anyio.to_thread

from promptmill.errors import BadOutput

ACCEPT_ENCODING: Final = "gzip, deflate"
"""What we say we read. No brotli and no zstd: their Python decoders come in versions that cannot be bounded."""

_WINDOW: Final = 64 * 1024
_PIECE: Final = 256 * 1024
"""zlib doubles what it makes at once while it makes it."""
_INLINE: Final = 64 * 1024
"""Up to this many compressed bytes are inflated on the event loop; a thread costs more than they do."""
_MOST_MEMBERS: Final = 64
_NOTHING: Final = frozenset({"", "identity"})


def too_large(limit: int, status: int) -> BadOutput:
    """The failure for a reply that is longer than allowed."""
    return BadOutput(
        f"the reply is over {limit} bytes; raise max_response_bytes if that is expected",
        code="response_too_large",
        http_status=status,
    )


def wire_limit(limit: int, encoding: str) -> int:
    """The most bytes to read from the wire for a reply of ``limit`` bytes: compression can add a little."""
    return limit if encoding in _NOTHING else limit + limit // 512 + 1024


async def decoded(body: bytes, encoding: str, limit: int, status: int) -> bytes:
    """``body`` without its ``content-encoding``, at most ``limit`` bytes.

    Raises:
        BadOutput: it would be longer (``response_too_large``), or cannot be decompressed (``bad_encoding``).
    """
    if encoding in _NOTHING or not body:
        if len(body) > limit:
            raise too_large(limit, status)
        return body
    if len(body) <= _INLINE:
        return inflate(body, encoding, limit, status)
    return await anyio.to_thread.run_sync(inflate, body, encoding, limit, status)


def inflate(body: bytes, encoding: str, limit: int, status: int) -> bytes:
    """Decompress gzip (also of several members) and deflate (with the zlib header or, as some servers do it, without).

    Stops as soon as the output is over ``limit``. Raises as :func:`decoded`.
    """
    wbits = _wbits(encoding, body)
    if wbits is None:
        raise _unreadable(f"the reply is in an encoding not asked for: {encoding[:50]!r}", status)
    parts: list[bytes] = []
    rest = memoryview(body)
    try:
        for _ in range(_MOST_MEMBERS):
            rest = _inflate_member(rest, wbits, parts, limit, status)
            if not rest:
                return b"".join(parts)
    except zlib.error as error:
        raise _unreadable(f"the reply is not {encoding}: {error}", status) from error
    raise _unreadable("the compressed reply has too many parts", status)


def _inflate_member(data: memoryview, wbits: int, parts: list[bytes], limit: int, status: int) -> memoryview:
    """Append what one member holds to ``parts`` and return what follows it."""
    inflater = zlib.decompressobj(wbits)
    room = limit - sum(map(len, parts))
    used = 0
    while not inflater.eof:
        window: bytes | memoryview = data[used : used + _WINDOW]
        if not window:
            raise _unreadable("the compressed reply ends too soon", status)
        used += len(window)
        while window and not inflater.eof:
            part = inflater.decompress(window, min(room + 1, _PIECE))
            room -= len(part)
            if room < 0:
                raise too_large(limit, status)
            parts.append(part)
            window = inflater.unconsumed_tail
    return data[used - len(inflater.unused_data) :]


def _unreadable(reason: str, status: int) -> BadOutput:
    return BadOutput(reason, code="bad_encoding", http_status=status)


def _wbits(encoding: str, body: bytes) -> int | None:
    """zlib's name for the format; None for one we do not read."""
    if encoding in ("gzip", "x-gzip"):
        return 16 + zlib.MAX_WBITS
    if encoding == "deflate":
        # RFC 1950, 2.2: the method is 8, and the first two bytes are a multiple of 31.
        has_header = len(body) > 1 and body[0] & 0x0F == zlib.DEFLATED and int.from_bytes(body[:2], "big") % 31 == 0
        return zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS
    return None
