"""What a run warns of, on stderr."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from promptmill.cli.terminal import tell
from promptmill.interfaces import Observer


class TellWarnings(Observer):
    """Tells each warning as it comes."""

    def warned(self, message: str) -> None:
        tell(f"warning: {message}")


class _TellLog(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        tell(f"{record.levelname.lower()}: {self.format(record)}")


@contextmanager
def log_told() -> Iterator[None]:
    """Tell what promptmill logs as well: Python itself would print it too, but raw."""
    log, handler = logging.getLogger("promptmill"), _TellLog(logging.WARNING)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
