"""Telling observers what happens; one that raises is heard of once and told nothing more."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from promptmill.interfaces import Observer

_log = logging.getLogger("promptmill")


class Audience:
    """The observers of a run."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = list(observers)

    def tell(self, event: Callable[[Observer], None]) -> None:
        """Call ``event`` with every observer."""
        for observer in tuple(self._observers):
            try:
                event(observer)
            except Exception:  # noqa: BLE001 - an observer may do anything, the run goes on
                self._observers.remove(observer)
                _log.exception("observer %r raised and is told nothing more", type(observer).__name__)

    def __bool__(self) -> bool:
        return bool(self._observers)
