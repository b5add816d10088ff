"""How many connections this process may have at once: each takes a file descriptor."""

from __future__ import annotations

import sys
from typing import Final

KEPT_BACK: Final = 64
"""Descriptors for everything but connections: journal, sinks, input, plugins, the interpreter's own."""

LEAST_SHARE: Final = 4
"""Under a very low limit, one part in four is left for connections."""

if sys.platform == "win32":

    def most_connections() -> int | None:
        """None: there is no such limit."""
        return None

else:
    import resource

    def most_connections() -> int | None:
        """What the soft limit on open files (``ulimit -n``) leaves; None when there is no limit."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == resource.RLIM_INFINITY:
            return None
        return max(soft - KEPT_BACK, soft // LEAST_SHARE, 1)
