"""Batches as a user has them: half of a job in batches, leaving and coming back, deadlines and budgets."""

from __future__ import annotations

import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

ROWS = 40
URGENT = 8


@pytest.fixture
def hybrid(simulate: Callable[..., Any], desk_for: Callable[[str], Any]) -> Callable[..., Any]:
    """``hybrid(sim={...}, bulk={...}, **job)``: a desk with a job whose every fifth row is urgent."""

    def make(*, sim: dict[str, Any] | None = None, bulk: dict[str, Any] | None = None, **changes: Any) -> Any:
        served = simulate(answers="echo", **{"speed": 20_000, **(sim or {})})
        desk = desk_for(served.base_url)
        desk.sim = served
        desk.prompts(
            [{"id": f"q{at}", "prompt": f"question {at}", "kind": "bulk" if at % 5 else "urgent"} for at in range(ROWS)]
        )
        price = {"vendor": "openai"}
        batch = desk.provider(use="openai-batch", model="gpt-5-mini", poll_interval="50ms", price=price)
        for name in ("max_concurrency", "timeout"):
            del batch[name]
        job = {
            "input": {"path": "prompts.jsonl", "priority": "{{ kind }}"},
            "params": {"max_tokens": 64},
            "providers": {"fast": desk.provider(model="gpt-5-mini", price=price), "bulk": {**batch, **(bulk or {})}},
            "routes": [{"when": {"priority": "urgent"}, "to": "fast"}, {"to": "bulk", "fallback": ["fast"]}],
        }
        desk.write(**{**job, **changes})
        return desk

    return make


def books(desk: Any) -> Any:
    return desk.sim.ledger()


def tags(desk: Any) -> dict[str, int]:
    """Batches the provider has seen, by the tag of their shard."""
    return dict(books(desk)["batches"]["by_metadata"].get("promptmill_tag", {}))


def test_urgent_rows_go_realtime_and_the_others_at_half_price(hybrid: Callable[..., Any]) -> None:
    desk = hybrid()
    done = desk.run("run", desk.job, "--json")
    assert done.code == 0, done.err
    summary = done.summary
    assert (summary["succeeded"], summary["total"]) == (ROWS, ROWS)
    assert Counter(one["tier"] for one in desk.records()) == {"batch": ROWS - URGENT, "realtime": URGENT}
    assert all(one["text"] == f"question {one['id'][1:]}" for one in desk.records())
    bulk = summary["by_provider"]["bulk"]
    assert bulk["cost_usd"] == pytest.approx(bulk["cost_all_realtime_usd"] / 2)
    assert summary["saved_usd"] == pytest.approx(bulk["cost_usd"])
    assert summary["latency_s"] == summary["by_provider"]["fast"]["latency_s"], "hours in a batch are no latency"
    assert list(tags(desk).values()) == [1]
    before = books(desk)["requests"]
    assert desk.run("run", desk.job).code == 0
    assert books(desk)["requests"] == before


def test_leaving_and_coming_back(hybrid: Callable[..., Any]) -> None:
    desk = hybrid(bulk={"batch_requests": 10})
    left = desk.run("run", desk.job, "--detach", "--json")
    assert left.code == 5, left.err
    assert "32 requests are in 4 batches" in left.err
    assert f"promptmill run {desk.job}" in left.err
    assert left.summary["resumable"] is True
    assert len(desk.records()) == URGENT
    status = desk.run("status", desk.job)
    assert "32 requests are in 4 batches of bulk" in status.out
    refused = desk.run("run", desk.job, "--fresh")
    assert refused.code == 2
    assert "E0343" in refused.err
    back = desk.run("run", desk.job, "--json")
    assert back.code == 0, back.err
    assert "32 rows are in batches of an earlier run, which are collected and not paid again" in back.err
    assert back.summary["succeeded"] == ROWS
    assert list(tags(desk).values()) == [1] * 4
    assert books(desk)["paid_again"] == 0
    assert "batches" not in desk.run("status", desk.job).out


def test_check_leaves_what_is_in_batches_alone(hybrid: Callable[..., Any]) -> None:
    desk = hybrid(bulk={"batch_requests": 10})
    assert desk.run("run", desk.job, "--detach").code == 5

    def kept() -> dict[str, bytes]:
        files = [path for path in (desk.root / ".promptmill").rglob("*") if path.is_file()]
        return {path.name: path.read_bytes() for path in files if not path.name.endswith(("-wal", "-shm"))}

    def calls() -> dict[str, Any]:
        return {name: count for name, count in books(desk)["operations"].items() if name != "batch-line"}

    before, made = kept(), calls()
    done = desk.run("check", desk.job)
    assert done.code == 0, done.err
    assert "a run would go on: " in done.err
    assert (kept(), calls()) == (before, made)
    assert desk.run("run", desk.job).code == 0
    assert books(desk)["paid_again"] == 0


def test_rows_that_wait_for_the_answer_of_another_do_not_keep_anybody(hybrid: Callable[..., Any]) -> None:
    """At temperature 0 identical rows are sent once; when the one that is sent is in a batch, so is the wait."""
    desk = hybrid(sim={"speed": 2000}, bulk={"linger": "200ms"}, params={"max_tokens": 64, "temperature": 0})
    same = [{"id": f"q{at}", "prompt": f"question {at % 6}", "kind": "bulk"} for at in range(30)]
    desk.prompts(same)
    left = desk.run("run", desk.job, "--detach")
    assert left.code == 5, left.err
    assert "6 requests are in 1 batch" in left.err
    back = desk.run("run", desk.job)
    assert back.code == 0, back.err
    assert [one["text"] for one in desk.records()] == [one["prompt"] for one in same]
    assert books(desk)["paid_calls"] == 6


def test_batches_are_ended_on_demand(hybrid: Callable[..., Any]) -> None:
    desk = hybrid(sim={"speed": 200})
    assert desk.run("run", desk.job, "--detach").code == 5
    ended = desk.run("run", desk.job, "--cancel-batches", "--json")
    assert ended.code == 5, ended.err
    assert "E0551" in ended.err
    kept = ended.summary["succeeded"]
    assert URGENT <= kept < ROWS
    assert len(desk.records()) == kept
    assert desk.run("run", desk.job, "--cancel-batches").code == 5, "nothing to end does not make the rest done"
    again = desk.start("run", desk.job, "--detach")
    again.wait(30)
    assert sorted(tags(desk).values()) == [1, 1], "what was not done is in a batch of its own"
    assert books(desk)["paid_again"] == 0


def test_ways_of_running_that_do_not_go_together_are_refused(hybrid: Callable[..., Any]) -> None:
    desk = hybrid()
    done = desk.run("run", desk.job, "--cancel-batches", "--fresh")
    assert done.code == 2
    assert "E0141" in done.err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")
def test_an_interrupt_leaves_batches_running(hybrid: Callable[..., Any]) -> None:
    desk = hybrid(sim={"speed": 1})
    process = desk.start("run", desk.job)
    deadline = time.monotonic() + 30
    while not tags(desk) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert b"32 requests are in 1 batch, to go on without this process; the next run collects them" in err
    assert not books(desk)["operations"].get("batches.cancel")


def test_a_stalled_batch_is_rescued_before_the_deadline(hybrid: Callable[..., Any]) -> None:
    desk = hybrid(sim={"speed": 2000, "scripts": ["stall-at=0.5"]}, bulk={"poll_interval": "200ms"}, deadline="12s")
    began = time.monotonic()
    done = desk.run("run", desk.job, "--json")
    assert done.code == 0, done.err
    assert "would miss the deadline" in done.err
    assert done.summary["succeeded"] == ROWS
    by_provider = Counter(one["provider"] for one in desk.records())
    assert by_provider["fast"] == URGENT + 16
    assert by_provider["bulk"] == 16, "what the batch had done is kept"
    assert books(desk)["paid_again"] == 0
    assert time.monotonic() - began < 12 + 5, "the start of the process is not part of the deadline"


def test_a_budget_stops_the_run_and_more_money_goes_on(hybrid: Callable[..., Any]) -> None:
    desk = hybrid(bulk={"batch_requests": 5, "linger": "200ms"}, budget={"usd": 0.0002})
    done = desk.run("run", desk.job, "--json")
    assert done.code == 4, done.err
    assert "E0511" in done.err
    assert 0 < done.summary["succeeded"] < ROWS
    assert 0 < done.summary["cost_usd"] <= 0.0002
    desk.job.write_text(desk.job.read_text().replace("0.0002", "1.0"))
    more = desk.run("run", desk.job, "--json")
    assert more.code == 0, more.err
    assert more.summary["succeeded"] == ROWS
    assert books(desk)["paid_again"] == 0


@pytest.mark.parametrize(
    ("change", "said"), [({"params": {}}, "set max_tokens"), ({"params": {"max_tokens": 9, "model": "x9"}}, "no price")]
)
def test_what_nobody_knows_the_cost_of_is_refused_under_a_budget(
    hybrid: Callable[..., Any], change: dict[str, Any], said: str
) -> None:
    desk = hybrid(budget={"usd": 5}, **change)
    done = desk.run("run", desk.job)
    assert done.code == 2, done.err
    assert "E0345" in done.err
    assert said in done.err
    assert "row 1" in done.err
    assert books(desk)["requests"] == 0
