from __future__ import annotations

from promptmill.clock import VirtualClock
from promptmill_simulator.ledger import Ledger


def test_counts_are_complete_when_entries_are_not_kept() -> None:
    ledger = Ledger(VirtualClock(), size=2)
    for prompt in ("00000000000000aa", "00000000000000bb", "00000000000000aa"):
        ledger.write("chat", "answered", 200, prompt=prompt, input_tokens=3, output_tokens=4)
    ledger.write("chat", "refused", 429)
    summary = ledger.summary()
    assert (summary["requests"], summary["entries_kept"], len(summary["entries"])) == (4, 2, 2)
    assert (summary["paid_calls"], summary["paid_prompts"], summary["paid_again"]) == (3, 2, 1)
    assert (summary["input_tokens"], summary["output_tokens"]) == (9, 12)
    assert summary["operations"] == {"chat": {"answered": 3, "refused": 1}}
    assert [entry["status"] for entry in ledger.summary(1)["entries"]] == [429]
    assert ledger.summary(0)["entries"] == []


def test_the_most_at_once_is_kept_until_reset() -> None:
    ledger = Ledger(VirtualClock(), size=10)
    for _ in range(3):
        ledger.began()
    ledger.ended()
    ledger.ended()
    assert (ledger.summary()["in_flight"], ledger.summary()["peak_in_flight"]) == (1, 3)
    ledger.reset()
    assert ledger.summary()["peak_in_flight"] == 1
