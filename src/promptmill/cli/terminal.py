"""Text for people's terminals: everything foreign is made harmless before it gets there."""

from __future__ import annotations

import math
import os
import re
import sys
from contextlib import suppress
from typing import Final, TextIO

from promptmill.errors import StorageError

# C0 and C1 controls but tab and newline, and the marks that reorder text (Unicode bidi controls).
_UNSAFE: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def safe(text: str) -> str:
    """``text`` with control and bidi characters shown as escapes, so that it can move no cursor and hide nothing."""
    return _UNSAFE.sub(
        lambda found: f"\\x{ord(found[0]):02x}" if ord(found[0]) < 256 else f"\\u{ord(found[0]):04x}", text
    )


def one_line(text: str) -> str:
    """Foreign text that is to stay on its line: no line of it can pass for one of ours."""
    return safe(text).replace("\n", "\\n").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def tell(text: str = "", *, stream: TextIO | None = None) -> None:
    """Print one line for people on stderr. Never fails: a closed or narrow terminal is no reason to lose a run."""
    out = stream or sys.stderr
    if out is None:  # the program was started with stderr closed
        return
    try:
        out.write(one_line(text).encode(out.encoding or "utf-8", "replace").decode(out.encoding or "utf-8") + "\n")
        out.flush()
    except OSError:
        if out is sys.stderr:
            _give_up(out)
    except ValueError:
        pass


def emit(text: str) -> None:
    """Print data on stdout, as UTF-8 whatever the locale says. Raises what :func:`emit_bytes` raises."""
    emit_bytes(text.encode("utf-8", "replace") + b"\n")


def emit_bytes(data: bytes) -> bool:
    """Write data to stdout as it is; False when nobody reads it any more, which is no error.

    Raises:
        StorageError: stdout cannot be written, as when it is a file on a full disk.
    """
    if sys.stdout is None:  # the program was started with stdout closed
        return False
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        _give_up(sys.stdout)
        return False
    except OSError as error:
        _give_up(sys.stdout)
        raise StorageError(f"stdout cannot be written: {error.strerror}", code="E0650") from error
    return True


def _give_up(stream: TextIO) -> None:
    # Python flushes it once more at exit, and ends with 120 when that fails: point it where it cannot.
    with suppress(OSError, ValueError):  # a stream that is no file has nothing to be pointed
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def duration(seconds: float) -> str:
    """Seconds as people say them: ``420 ms``, ``12.3 s``, ``4 min 05 s``, ``2 h 07 min``."""
    if round(seconds, 3) < 1:
        return f"{seconds * 1000:.0f} ms"
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def dollars(usd: float) -> str:
    """US dollars as people read them: cents from a dollar on, two digits that mean something below."""
    if usd == 0 or abs(usd) >= 1:
        return f"${usd:,.2f}"
    return f"${usd:.{1 - math.floor(math.log10(abs(usd)))}f}"
