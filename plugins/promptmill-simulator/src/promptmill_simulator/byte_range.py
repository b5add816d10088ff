"""Which part of a file a request asks for (RFC 9110, sections 13.1.5 and 14.2)."""

from __future__ import annotations

import re
from typing import Final

_ONE_RANGE: Final = re.compile(rb"\s*bytes\s*=\s*([0-9]{0,18})\s*-\s*([0-9]{0,18})\s*", re.IGNORECASE)


class Unsatisfiable(Exception):
    """No byte of the file is in the range."""


def asked_span(wanted: bytes | None, condition: bytes | None, etag: bytes, size: int) -> tuple[int, int] | None:
    """Where the part starts and how many bytes it has; None when the whole file is to be sent.

    Args:
        wanted: the header ``range``; several ranges, or what is no range of bytes, count as none.
        condition: the header ``if-range``; anything but the file's own etag makes the range count as none.
        etag: the file's.
        size: its bytes.

    Raises:
        Unsatisfiable: the part is outside of the file.
    """
    found = None if wanted is None else _ONE_RANGE.fullmatch(wanted)
    if found is None or (condition is not None and condition.strip() != etag):
        return None
    first, last = found[1], found[2]
    if not first and not last:
        return None
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1 if last else size)
        if last and int(last) < start:
            return None
    if start >= size or start >= end:
        raise Unsatisfiable
    return start, end - start
