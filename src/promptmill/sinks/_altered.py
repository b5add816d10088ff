"""What a sink says when it stores a text otherwise than it came: once for each kind of change."""

from __future__ import annotations

import logging
from typing import Final

_log = logging.getLogger("promptmill")

SURROGATE: Final = "lone surrogates are stored as U+FFFD, since they are no text"
NUL: Final = "NUL characters are stored as U+FFFD, since it cannot hold them"


class Altered:
    """Says each kind of change once. ``place`` is what messages call the sink."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._told: set[str] = set()

    def __call__(self, what: str) -> None:
        if what not in self._told:
            self._told.add(what)
            _log.warning("%s: %s", self._place, what)
