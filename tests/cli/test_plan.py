"""plan, as typed in a shell."""

from __future__ import annotations

from typing import Any


def test_a_plan_for_people(desk: Any, sim: Any) -> None:
    desk.prompts(20)
    desk.write(provider={"model": "gpt-5-mini", "price": {"vendor": "openai"}}, params={"max_tokens": 100})
    done = desk.run("plan", "job.yaml")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("job: 20 rows, nothing was sent\n")
    lines = [line.split() for line in done.out.split("\n")]
    assert ["1", "fast", "20", "10", "11", "11"] in [line[:6] for line in lines]
    assert [line[:4] for line in lines if line[2:3] == ["realtime"]] == [["1", "fast", "realtime", "*"]]
    assert any(line[:1] == ["batch"] and "saves" in line for line in lines)
    assert "prices of genai-prices" in done.out
    assert "set by the 8 calls at once of fast" in done.out
    assert sim.ledger(0)["requests"] == 0
    assert {path.name for path in desk.root.iterdir()} == {"job.yaml", "prompts.jsonl"}


def test_a_plan_for_programs(desk: Any) -> None:
    desk.prompts(20)
    desk.write(provider={"price": {"input": 1, "output": 2, "batch_discount": 0.5}}, params={"max_tokens": 100})
    done = desk.run("plan", "job.yaml", "--json", "--latency", "2s")
    assert (done.code, done.err) == (0, "")
    found = done.summary
    assert (found["format_version"], found["job"], found["rows"]) == (1, "job", 20)
    assert found["cost_usd"]["high"] == found["routes"][0]["cost_usd"]["realtime"]["high"] > 0.004
    assert found["routes"][0]["cost_usd"]["flex"] == {"low": None, "expected": None, "high": None}
    assert (found["eta_s"], found["prices"]) == (5.0, None)


def test_a_plan_needs_no_key(desk: Any) -> None:
    desk.prompts(1)
    desk.write(provider={"api_key": "env:NEVER_SET", "base_url": None, "model": "gpt-5-mini"})
    done = desk.run("plan", "job.yaml")
    assert done.code == 0, done.err
    assert "and more: without max_tokens nobody knows" in done.out


def test_an_unknown_price_is_said(desk: Any) -> None:
    desk.prompts(b'{"prompt": "good"}\n{"prompt":\n')
    desk.write()
    done = desk.run("plan", "job.yaml")
    assert done.code == 0, done.err
    assert "cost   not known" in done.out
    assert "warning: 1 rows cannot be used (input_json)" in done.out


def test_batches_money_and_time_are_judged(desk: Any) -> None:
    desk.prompts(20)
    key = {"api_key": "env:NEVER_SET", "model": "gpt-5-mini"}
    bulk = {"use": "openai-batch", **key, "batch_requests": 5, "max_batches": 3}
    slow = {"use": "openai-batch", **key}
    desk.write(
        providers={"bulk": bulk, "slow": slow, "fast": {"use": "openai-chat", **key}},
        routes=[
            {"when": {"prompt_chars": {"gt": 1000}}, "to": "slow"},
            {"to": "bulk", "fallback": ["fast"], "budget": {"usd": 0.001}, "deadline": "6h"},
        ],
        params={"max_tokens": 100},
        budget={"usd": 20},
        deadline="30h",
    )
    done = desk.run("plan", "job.yaml")
    assert (done.code, done.err) == (0, "")
    lines = done.out.split("\n")
    assert "budget $20.00 fits" in lines
    assert "budget route 2: $0.0010 will be reached" in lines
    (batches,) = [line for line in lines if line.startswith("batch  4 batches at bulk with 20 rows, 2 rounds one")]
    assert batches.endswith(" UTC at the latest")
    assert "time   up to 48 h 00 min, set by the batches of bulk" in lines
    assert "within 30 h 00 min: may need the fallback; 1 batch with 5 rows may take longer" in lines
    assert "within route 2: 6 h 00 min: may need the fallback; 4 batches with 20 rows may take longer" in lines
    assert "calls are taken to last" not in done.out
    found = desk.run("plan", "job.yaml", "--json").summary
    assert found["budget"] == {"usd": 20.0, "verdict": "fits", "reason": None}
    assert found["routes"][1]["budget"]["verdict"] == "will be reached"
    late = {"deadline_s": 108_000.0, "verdict": "may need the fallback", "batches": 1, "rows": 5, "stranded": 0}
    assert found["deadline"] == late
    assert (found["eta_s"], found["latest_finish_s"]) == (None, 172_800.0)
    assert found["providers"]["bulk"]["batch"]["batches"] == 4


def test_why_a_budget_would_be_refused_is_said(desk: Any) -> None:
    desk.prompts(2)
    desk.write(provider={"api_key": "env:NEVER_SET", "base_url": None, "model": "gpt-5-mini"}, budget={"usd": 1})
    done = desk.run("plan", "job.yaml")
    assert done.code == 0, done.err
    assert "budget $1.00 would be refused: set max_tokens: 2 rows have no bound on their answer\n" in done.out


def test_a_wrong_latency_is_refused(desk: Any) -> None:
    done = desk.run("plan", "job.yaml", "--latency", "soon")
    assert (done.code, done.out) == (2, "")
    assert "error[E0140]" in done.err


def test_the_costs_of_a_run_are_within_its_plan(desk: Any, simulate: Any) -> None:
    simulator = simulate()
    desk.prompts(50)
    price = {"input": 0.25, "output": 2.0}
    desk.write(provider={"base_url": simulator.base_url, "price": price}, params={"max_tokens": 60})
    planned = desk.run("plan", "job.yaml", "--json").summary["cost_usd"]
    done = desk.run("run", "job.yaml", "--json")
    assert done.code == 0, done.err
    spent = done.summary["cost_usd"]
    assert planned["low"] <= spent <= planned["high"]
    assert spent == done.summary["cost_all_realtime_usd"]
    records = desk.records()
    assert abs(sum(one["cost_usd"] for one in records) - spent) < 1e-8
    usage = records[0]["usage"]
    assert abs(records[0]["cost_usd"] - (usage["input_tokens"] * 0.25 + usage["output_tokens"] * 2.0) / 1e6) < 1e-12
    # A run that is over is counted again from its journal.
    again = desk.run("run", "job.yaml", "--json").summary
    assert (again["cost_usd"], again["saved_usd"]) == (spent, 0.0)


def test_what_flex_saves_is_the_same_when_counted_from_the_journal(desk: Any, simulate: Any) -> None:
    simulator = simulate()
    desk.prompts(5)
    price = {"input": 1.0, "output": 10.0, "flex_discount": 0.5}
    desk.write(provider={"base_url": simulator.base_url, "price": price, "service_tier": "flex"})
    done = desk.run("run", "job.yaml", "--json")
    assert done.code == 0, done.err
    first = done.summary
    assert [one["tier"] for one in desk.records()] == ["flex"] * 5
    assert first["saved_usd"] == first["cost_usd"] > 0
    assert list(first["by_provider"]["fast"]["by_tier"]) == ["flex"]
    again = desk.run("run", "job.yaml", "--json").summary
    assert [again[name] for name in ("cost_usd", "cost_all_realtime_usd", "saved_usd")] == [
        first[name] for name in ("cost_usd", "cost_all_realtime_usd", "saved_usd")
    ]
