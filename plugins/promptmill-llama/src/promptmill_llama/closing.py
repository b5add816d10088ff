"""When the engine of llama.cpp may be freed."""

from __future__ import annotations

import re
import time
from typing import Any, Final

POLL: Final = 0.02
"""Seconds between two looks at an engine that is in the middle of a batch."""

_AT_WORK: Final = re.compile(r"^llamacpp:requests_processing [1-9]", re.MULTILINE)
"""Source: the metrics of the llama.cpp server."""


def wait_until_idle(server: Any) -> None:
    """Return when the engine's loop has begun and is in no batch. Call it after the last call came back. Blocks.

    To free an engine is to tell its loop to end and to wait for that, and xllamacpp (2026.10) holds the GIL all the
    while. Two things make that dangerous:

    - An engine is handed out just before its loop begins, and beginning wipes out an order to end that came sooner:
      the loop then runs for ever, and the process stands still for good.
    - A call that was given up is still in a batch, and until the batch is done the process stands still.

    The metrics come out of the loop, so that there is an answer only once it has begun; they are given during a batch
    too. Asking for them does not hold the GIL. ``endpoint_metrics`` must be on, or the answer comes from elsewhere.
    """
    while _AT_WORK.search(server.handle_metrics()):
        time.sleep(POLL)
