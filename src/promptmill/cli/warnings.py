"""What a run warns of, on stderr."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from promptmill.cli.terminal import tell
from promptmill.interfaces import Observer

_WATCHDOG: Final = "_watchdog"
"""The module whose messages have several lines."""


class TellWarnings(Observer):
    """Tells each warning as it comes."""

    def warned(self, message: str) -> None:
        tell(f"warning: {message}")


class _TellLog(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        # The lines of a stack are ours; what is foreign in one of them stays in it.
        lines = self.format(record).split("\n") if record.module == _WATCHDOG else [self.format(record)]
        for number, line in enumerate(lines):
            tell(line if number else f"{record.levelname.lower()}: {line}")


@contextmanager
def log_told() -> Iterator[None]:
    """Tell what promptmill logs as well: Python itself would print it too, but raw."""
    log, handler = logging.getLogger("promptmill"), _TellLog(logging.WARNING)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
