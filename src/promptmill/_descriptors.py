"""How many connections this process may have at once: each takes a file descriptor."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Final

from promptmill.errors import UsageError

KEPT_BACK: Final = 64
"""Descriptors for everything but connections: journal, sinks, input, plugins, the interpreter's own."""

SPARE: Final = 4
"""Descriptors that are opened and closed while a run goes on: a new tail of the journal, a folder on the way to it."""

MOST_USUAL: Final = 1024

MOST_FILES: Final = 65_536
"""Files that are ever asked for."""

LEAST_SHARE: Final = 4
"""Under a very low limit, one part in four is left for connections."""

if sys.platform == "win32":

    def most_connections() -> int | None:
        """None: there is no such limit."""
        return None

    def allow_more() -> None:
        """Nothing to do."""

else:
    import resource

    def most_connections() -> int | None:
        """What the soft limit on open files (``ulimit -n``) leaves; None when there is no limit.

        Raises:
            UsageError: it leaves none (E0117).
        """
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == resource.RLIM_INFINITY:
            return None
        free = soft - _open_now() - SPARE
        if free < 1:
            raise UsageError(
                f"{soft} files may be open at once (ulimit -n), and those of this run leave none for a connection",
                code="E0117",
                hint=f"allow more in the shell that starts the run: ulimit -n {MOST_USUAL}",
            )
        return min(max(soft - KEPT_BACK, soft // LEAST_SHARE), free)

    def _open_now() -> int:
        try:
            return len(os.listdir("/dev/fd"))  # noqa: PTH208 - names, not paths
        except OSError:
            return 0

    def allow_more() -> None:
        """Raise the soft limit to what anybody may have, for this process and those it starts. The usual one, 1,024 or
        256, is there for programs that use ``select()``, which nothing here does."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            with contextlib.suppress(ValueError, OSError):  # some systems allow less than they say
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
