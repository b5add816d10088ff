"""What pacing costs for one request: ``part_pacer.py [COUNT]``.

Each is looked at once in vain, waited for, charged, and settled with what a reply says of limits, under limits of
requests, of tokens and of a day together, in virtual time, so that no waiting is in it. Prints microseconds of CPU.
"""

from __future__ import annotations

import json
import sys
import time

from promptmill._pacing import Pacer
from promptmill.clock import VirtualClock
from promptmill.models import LimitReading, TokenEstimate, Usage

LIMITS = {"rpm": 60_000.0, "tpm": 60_000_000.0, "rpd": 1e9}
USED = Usage(input_tokens=400, output_tokens=80)
TOLD = (
    LimitReading(what="requests", window=60.0, limit=60_000.0, remaining=59_000.0, reset_in=1.0),
    LimitReading(what="tokens", window=60.0, limit=60_000_000.0, remaining=59_000_000.0, reset_in=1.0),
)


def main(count: int) -> None:
    clock = VirtualClock()
    pacer = Pacer(LIMITS, clock, charging="settle")
    estimate = TokenEstimate(410, 256)

    async def mill() -> float:
        await clock.sleep(10)
        started = time.process_time()
        for _ in range(count):
            wait = pacer.wait(estimate)
            clock._advance(max(wait, 0.0))
            pacer.wait(estimate)
            pacer.answered(pacer.charge(estimate), USED, TOLD)
        return time.process_time() - started

    seconds = clock.run(mill)
    print(json.dumps({"each_us": 1e6 * seconds / count, "rate": count / seconds}))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
