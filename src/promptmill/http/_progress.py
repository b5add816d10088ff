"""The least a server must send of a reply it has begun: what ends half-open connections and replies that drip."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable

import anyio

from promptmill.errors import Transient
from promptmill.http._failures import origin
from promptmill.http.client import HttpSettings


class Progress:
    """Watches one body come in, from its first byte on that is not white space.

    Only waiting counts as time: the server is not to blame for a slow disk of ours. As soon as the bytes that a window
    needs are there, the next one begins; so a fast start does not buy time for a drip.
    """

    __slots__ = ("_begun", "_idle", "_least", "_received", "_url", "_waited", "_window")

    def __init__(self, settings: HttpSettings, url: str) -> None:
        self._url = url
        self._idle = settings.idle_timeout
        self._window = settings.progress_window if settings.least_bytes_per_second else math.inf
        self._least = settings.least_bytes_per_second * settings.progress_window
        self._begun = False
        self._received = 0
        self._waited = 0.0

    @property
    def patience(self) -> float:
        """Seconds the next piece may take."""
        return min(self._idle, self._window - self._waited) if self._begun else math.inf

    def take(self, piece: bytes, waited: float = 0.0) -> None:
        """Note a piece that came after ``waited`` seconds of waiting for it."""
        if not self._begun:
            self._begun = bool(piece) and not piece.isspace()
            waited = 0.0
        self._received += len(piece)
        self._waited += waited
        if self._received >= self._least:
            self._received = 0
            self._waited = 0.0

    async def read(self, reading: Awaitable[bytes]) -> bytes:
        """What ``reading`` gives: the next piece, or an empty one at the end.

        Raises:
            Transient: it takes too long (``stalled``).
        """
        if not self._begun:
            piece = await reading
            self.take(piece)
            return piece
        began = time.monotonic()
        come: bytes | None = None
        with anyio.move_on_after(self.patience):
            come = await reading
        if come is None:
            raise self._stalled()
        self.take(come, time.monotonic() - began)
        return come

    def _stalled(self) -> Transient:
        slow = f"less than {self._least:g} bytes in {self._window:g} s"
        reason = f"nothing for {self._idle:g} s" if self.patience == self._idle else slow
        return Transient(f"{origin(self._url)!r} stopped in the middle of its reply ({reason})", code="stalled")
