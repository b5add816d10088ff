"""The command line, in the event loop asked for: ``job.py LOOP run job.yaml --json --quiet``."""

from __future__ import annotations

import sys

from promptmill.cli.main import main

if __name__ == "__main__":
    loop = sys.argv.pop(1)
    if loop == "asyncio":
        sys.modules["uvloop"] = None  # type: ignore[assignment] # as if it were not installed
    main()
