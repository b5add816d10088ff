"""Python's garbage collector, told what a run is like."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

NEW_OBJECTS: Final = 50_000
"""Objects made before the collector looks for cycles; Python's own is some hundreds, and a request makes more."""


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Look for cycles less often, and never among what is there already: that takes a seventh of the CPU time of a
    run and finds next to nothing, since results are freed without it."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
