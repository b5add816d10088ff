"""promptmill as a library with the pyreqwest backend."""

from __future__ import annotations

from functools import partial

import case_stream
import measuring

if __name__ == "__main__":
    measuring.run(partial(case_stream.main, backend="pyreqwest"))
