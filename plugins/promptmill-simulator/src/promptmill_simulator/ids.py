"""Names of things: unique over all runs of the simulator, cheap to make."""

from __future__ import annotations

import itertools
import secrets


class Ids:
    """Makes names such as ``chatcmpl-3f9a...000001``. They do not depend on the seed: an old name never comes back."""

    def __init__(self) -> None:
        self._start = secrets.token_hex(8)
        self._numbers = itertools.count(1)

    def make(self, prefix: str) -> str:
        return f"{prefix}{self._start}{next(self._numbers):08x}"
