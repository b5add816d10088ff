"""What a job would come to, checked by hand on small jobs."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from promptmill._plan import BudgetPlan, DeadlinePlan, JobPlan, Range, plan_job
from promptmill._registry import Registry
from promptmill.batch import BatchLimits, BatchProvider
from promptmill.clock import VirtualClock
from promptmill.errors import InputError, JobError, Permanent
from promptmill.interfaces import Provider
from promptmill.models import Request, TokenEstimate
from promptmill.options import BatchProviderOptions, BuildContext, ProviderOptions

NOVEMBER_2026 = datetime(2026, 11, 22, 12, 0, tzinfo=UTC).timestamp()


class Measured(Provider):
    """Takes a token for each character, so that sums can be done by hand; never to be opened."""

    model = "gpt-5-mini"

    async def aopen(self) -> None:
        raise AssertionError("a plan opens nothing")

    def estimate(self, request: Request) -> TokenEstimate:
        bound = request.params.get("max_tokens")
        return TokenEstimate(request.prompt_chars, bound if isinstance(bound, int) else None)


class MeasuredOptions(ProviderOptions):
    vendor: str | None = "openai"
    flex: bool = False

    def build(self, context: BuildContext) -> Measured:
        assert context.planning
        one = Measured()
        one.price_vendor = self.vendor
        one.tier = "flex" if self.flex else "realtime"
        return one


class MeasuredBatch(BatchProvider):
    """The same in batches. A line is as long as its prompt, and 9 bytes more with its newline and a mark of 8."""

    model = "gpt-5-mini"
    price_vendor = "openai"
    estimate = Measured.estimate

    async def aopen(self) -> None:
        raise AssertionError("a plan opens nothing")

    def encode(self, request: Request, wire_id: str) -> bytes:
        if "!" in request.messages[0].text:
            raise Permanent("no", code="not_in_a_batch")
        return f"{request.messages[0].text}{wire_id[:8]}".encode()


# What a plan does not ask for needs no body.
MeasuredBatch.__abstractmethods__ = frozenset()


class MeasuredBatchOptions(BatchProviderOptions):
    lines: int = 50_000
    line_bytes: int = 10**9
    window_s: float | None = 86_400.0

    def build(self, context: BuildContext) -> MeasuredBatch:
        assert context.planning
        one = MeasuredBatch()  # type: ignore[abstract] # a plan calls none of the rest
        one.limits = BatchLimits(requests=self.lines, bytes=self.line_bytes, window_s=self.window_s)
        return one


class Ours(Registry):
    """The registry with the providers of these tests in it."""

    def get(self, kind: str, name: str) -> Any:
        ours = {"measured": MeasuredOptions, "measured-batch": MeasuredBatchOptions}
        return ours[name] if kind == "provider" and name in ours else super().get(kind, name)


async def planned(folder: Path, prompts: list[Any], *, latency: float | None = None, **changes: Any) -> JobPlan:
    rows = [one if isinstance(one, dict) else {"prompt": one} for one in prompts]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    job = {
        "version": 1,
        "input": {"path": "prompts.jsonl"},
        "params": {"max_tokens": 1000},
        "providers": {"fast": {"use": "measured"}},
        "output": "answers.jsonl",
        **changes,
    }
    (folder / "job.yaml").write_text(json.dumps(job))
    return await plan_job(folder / "job.yaml", latency=latency, clock=VirtualClock(wall=NOVEMBER_2026), registry=Ours())


def provider(**options: Any) -> dict[str, Any]:
    return {"fast": {"use": "measured", **options}}


async def test_tokens_and_money_by_hand(tmp_path: Path) -> None:
    found = await planned(tmp_path, ["x" * 100] * 9 + ["x" * 1100])
    (route,) = found.routes
    assert (found.rows, route.rows, route.models) == (10, 10, {"gpt-5-mini": 10})
    assert route.input_tokens is not None
    spread = route.input_tokens
    assert (spread.p50, spread.p95, spread.max, spread.total) == (100, 1100, 1100, 2000)
    assert route.output_tokens == Range(low=1500, expected=5000, high=10_000)
    # 2000 x 0.64, 0.83 and 1 tokens at 0.25, and the output at 2 millionths of a dollar; half of it in a batch.
    low, expected, high = (
        (1280 * 0.25 + 1500 * 2) / 1e6,
        (1660 * 0.25 + 5000 * 2) / 1e6,
        (2000 * 0.25 + 10_000 * 2) / 1e6,
    )
    assert route.cost_usd["realtime"] == Range(low=low, expected=expected, high=high)
    assert route.cost_usd["batch"].expected == pytest.approx(expected / 2)
    assert found.cost_usd == route.cost_usd["realtime"]
    assert found.batch_saves_usd == pytest.approx(expected / 2)
    assert found.prices is not None


async def test_rows_go_where_the_routes_send_them(tmp_path: Path) -> None:
    providers = {
        "fast": {"use": "measured"},
        "cheap": {"use": "measured", "flex": True},
        "own": {"use": "measured", "price": {"input": 0, "output": 0}},
    }
    routes = [
        {"when": {"prompt_chars": {"lt": 10}}, "to": "own", "fallback": ["fast"]},
        {"when": {"prompt_chars": {"lt": 100}}, "to": "fast"},
        {"to": "cheap"},
    ]
    found = await planned(tmp_path, ["x", "xx", "x" * 50, "x" * 500], providers=providers, routes=routes)
    assert [(one.route, one.provider, one.rows, one.tier) for one in found.routes] == [
        (1, "own", 2, "realtime"),
        (2, "fast", 1, "realtime"),
        (3, "cheap", 1, "flex"),
    ]
    assert found.routes[0].fallback == ("fast",)
    own, fast, cheap = found.routes
    assert own.cost_usd["realtime"] == own.cost_usd["batch"] == Range(low=0.0, expected=0.0, high=0.0)
    assert fast.cost_usd["realtime"].high is not None
    assert cheap.cost_usd["flex"].high is not None
    assert found.cost_usd.high == pytest.approx(fast.cost_usd["realtime"].high + cheap.cost_usd["flex"].high)
    assert {name: one.rows for name, one in found.providers.items()} == {"fast": 1, "cheap": 1, "own": 2}


async def test_without_max_tokens_only_the_input_is_known(tmp_path: Path) -> None:
    found = await planned(tmp_path, ["x" * 1000, {"prompt": "x" * 1000, "n": 1}], params={})
    (route,) = found.routes
    assert (route.unbounded, route.output_tokens) == (2, Range(low=0))
    assert found.cost_usd == Range(low=1280 * 0.25 / 1e6)
    assert found.batch_saves_usd is None


async def test_an_unknown_price_stays_unknown(tmp_path: Path) -> None:
    found = await planned(tmp_path, ["x"], providers=provider(vendor=None))
    assert found.cost_usd == Range()
    assert found.prices is None
    assert found.batch_saves_usd is None


async def test_one_unknown_model_makes_the_sum_unknown(tmp_path: Path) -> None:
    providers = {"fast": {"use": "measured"}, "own": {"use": "measured", "vendor": None}}
    routes = [{"when": {"prompt_chars": {"lt": 10}}, "to": "own"}, {"to": "fast"}]
    found = await planned(tmp_path, ["x", "x" * 50], providers=providers, routes=routes)
    assert found.routes[1].cost_usd["realtime"].expected is not None
    assert found.cost_usd == Range()


@pytest.mark.parametrize(
    ("options", "binding", "seconds"),
    [
        # 600 calls of 2 s, 8 at once.
        ({"max_concurrency": 8}, "concurrency", 150.0),
        ({"max_concurrency": 600, "limits": {"rps": 5}}, "rps", 120.0),
        # 99 % of a limit is used.
        ({"max_concurrency": 600, "limits": {"rpm": 100}}, "rpm", 360 / 0.99),
        # 1100 tokens a call: 100 of input and the bound of the output.
        ({"max_concurrency": 600, "limits": {"rpm": 1000, "tpm": 66_000}}, "tpm", 600 / 0.99),
        ({"max_concurrency": 600, "limits": {"otpm": 60_000, "itpm": 60_000}}, "otpm", 600 / 0.99),
    ],
)
async def test_what_sets_the_pace(tmp_path: Path, options: dict[str, Any], binding: str, seconds: float) -> None:
    found = await planned(tmp_path, ["x" * 100] * 600, providers=provider(**options), latency=2.0)
    one = found.providers["fast"]
    assert (one.binding, found.binding_provider) == (binding, "fast")
    assert found.eta_s == one.eta_s == one.seconds[binding] == pytest.approx(seconds, abs=0.01)


async def test_a_call_is_assumed_to_last_as_long_as_its_answer(tmp_path: Path) -> None:
    found = await planned(tmp_path, ["x"] * 10, providers=provider(max_concurrency=1))
    assert found.eta_s == 10 * (1 + 500 / 50)
    found = await planned(tmp_path, ["x"] * 10, providers=provider(max_concurrency=100), params={})
    assert found.eta_s == 1 + 250 / 50


async def test_rows_that_would_not_be_sent_are_counted_apart(tmp_path: Path) -> None:
    rows = [
        {"prompt": "x"},
        {"prompt": "x" * 300},
        {"custom_id": "e", "method": "POST", "url": "/v1/embeddings", "body": {"model": "m", "input": "x"}},
    ]
    found = await planned(tmp_path, rows, providers=provider(limits={"itpm": 200}))
    assert found.providers["fast"].refused == {"over_limit": 1, "unsupported_operation": 1}
    assert found.providers["fast"].rows == found.routes[0].rows == 1


async def test_rows_that_ask_the_same_are_paid_once(tmp_path: Path) -> None:
    prompts = ["one", "two", "one", "one"]
    found = await planned(tmp_path, prompts, params={"temperature": 0, "max_tokens": 10})
    assert (found.rows, found.shared, found.routes[0].rows) == (4, 2, 2)
    found = await planned(tmp_path, prompts, params={"temperature": 0, "max_tokens": 10}, dedupe=False)
    assert (found.shared, found.routes[0].rows) == (0, 4)


async def test_rows_may_name_their_models(tmp_path: Path) -> None:
    rows = [
        {
            "custom_id": str(at),
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": model, "max_tokens": 10, "messages": [{"role": "user", "content": "x"}]},
        }
        for at, model in enumerate(["gpt-4o-mini", "gpt-4o-mini", "gpt-5-mini"])
    ]
    (route,) = (await planned(tmp_path, rows)).routes
    assert route.models == {"gpt-4o-mini": 2, "gpt-5-mini": 1}
    assert route.cost_usd["realtime"].high == pytest.approx((2 * (0.15 + 10 * 0.6) + 0.25 + 10 * 2) / 1e6)
    # One of the two has no flex price.
    assert route.cost_usd["flex"] == Range()


async def test_bad_rows_are_counted_and_nothing_is_spent_on_them(tmp_path: Path) -> None:
    found = await planned(tmp_path, ["x", {"id": [1], "prompt": "x"}])
    assert (found.rows, sum(found.bad_rows.values()), found.routes[0].rows) == (2, 1, 1)


async def test_an_empty_input_costs_nothing(tmp_path: Path) -> None:
    found = await planned(tmp_path, [])
    assert found.cost_usd == Range(low=0.0, expected=0.0, high=0.0)
    assert (found.eta_s, found.binding_provider, found.routes[0].input_tokens) == (0.0, None, None)


async def test_what_a_run_refuses_a_plan_refuses_too(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the templates fail on 1 of 1 rows"):
        await planned(tmp_path, [{"question": "x"}], input={"path": "prompts.jsonl", "prompt": "{{ missing }}"})
    with pytest.raises(InputError, match="ids occur twice"):
        await planned(tmp_path, [{"id": "a", "prompt": "x"}, {"id": "a", "prompt": "y"}])
    with pytest.raises(JobError):
        await planned(tmp_path, ["x"], providers={})


def with_batches(*, fallback: bool = True, route: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    """The keys of a job whose short prompts go to ``bulk``, and the others to ``fast``."""
    to_bulk = {"when": {"prompt_chars": {"lt": 100}}, "to": "bulk", "fallback": ["fast"] * fallback, **(route or {})}
    return {
        "providers": {"fast": {"use": "measured"}, "bulk": {"use": "measured-batch", **options}},
        "routes": [to_bulk, {"to": "fast"}],
    }


class TestBatches:
    async def test_have_no_pace_but_a_latest_end(self, tmp_path: Path) -> None:
        found = await planned(tmp_path, ["x" * 10] * 5 + ["x" * 200], **with_batches())
        bulk = found.providers["bulk"]
        assert (bulk.rows, bulk.eta_s, bulk.seconds, bulk.binding, bulk.concurrency) == (5, None, {}, None, None)
        batch = bulk.batch
        assert batch is not None
        assert (batch.batches, batch.bytes, batch.tokens, batch.rounds) == (1, 5 * 19, 50, 1)
        assert (batch.window_s, batch.latest_finish_s) == (86_400.0, 86_400.0)
        assert batch.latest_finish == found.latest_finish == "2026-11-23T12:00Z"
        assert (found.eta_s, found.latest_finish_s, found.binding_provider) == (None, 86_400.0, "bulk")
        assert found.providers["fast"].batch is None
        assert found.providers["fast"].eta_s == 11.0
        assert found.routes[0].tier == "batch"
        # 10 tokens in and 1000 out for 0.25 and 2 millionths of a dollar, less half of it.
        assert found.routes[0].cost_usd["batch"].high == pytest.approx(5 * (10 * 0.25 + 1000 * 2) / 2 / 1e6)

    async def test_without_rows_the_other_provider_sets_the_time(self, tmp_path: Path) -> None:
        found = await planned(tmp_path, ["x" * 200], **with_batches())
        assert (found.eta_s, found.latest_finish_s, found.latest_finish) == (11.0, None, None)
        assert found.binding_provider == "fast"
        assert found.providers["bulk"].batch is not None
        assert (found.providers["bulk"].batch.batches, found.providers["bulk"].batch.rounds) == (0, 0)

    @pytest.mark.parametrize(
        ("options", "batches", "rounds"),
        [
            ({"lines": 2}, 3, 1),
            ({"line_bytes": 3 * 19}, 2, 1),
            ({"line_bytes": 3 * 19 - 1}, 3, 1),
            ({"enqueued_tokens": 20}, 3, 3),
            # Batches of 10 tokens: four of them are more than 95 % of the limit.
            ({"lines": 1, "enqueued_tokens": 40}, 5, 2),
            ({"lines": 1, "max_batches": 2}, 5, 3),
        ],
    )
    async def test_are_full_by_any_limit(
        self, tmp_path: Path, options: dict[str, Any], batches: int, rounds: int
    ) -> None:
        found = await planned(tmp_path, ["x" * 10] * 5, **with_batches(**options))
        batch = found.providers["bulk"].batch
        assert batch is not None
        assert (batch.batches, batch.rounds, batch.tokens) == (batches, rounds, 50)
        assert batch.latest_finish_s == rounds * 86_400.0

    async def test_hold_one_model_and_one_route(self, tmp_path: Path) -> None:
        prompts: list[Any] = [{"prompt": "x" * 10}, {"prompt": "x" * 10, "model": "gpt-4o-mini"}, {"prompt": "x" * 50}]
        for at, row in enumerate(prompts):
            body = {"model": row.get("model", "gpt-5-mini"), "messages": [{"role": "user", "content": row["prompt"]}]}
            prompts[at] = {"custom_id": str(at), "method": "POST", "url": "/v1/chat/completions", "body": body}
        job = with_batches()
        job["routes"].insert(0, {"when": {"prompt_chars": {"lt": 20}}, "to": "bulk", "fallback": ["fast"]})
        batch = (await planned(tmp_path, prompts, **job)).providers["bulk"].batch
        assert batch is not None
        assert batch.batches == 2
        job["routes"][0]["deadline"] = "2h"
        batch = (await planned(tmp_path, prompts, **job)).providers["bulk"].batch
        assert batch is not None
        assert batch.batches == 3

    async def test_that_promise_nothing_have_no_end(self, tmp_path: Path) -> None:
        found = await planned(tmp_path, ["x"], **with_batches(window_s=None), deadline="9000d")
        assert (found.eta_s, found.latest_finish_s, found.latest_finish) == (None, None, None)
        assert found.binding_provider == "bulk"
        assert found.deadline is not None
        assert found.deadline.verdict == "may need the fallback"

    async def test_do_not_take_what_cannot_be_written(self, tmp_path: Path) -> None:
        found = await planned(tmp_path, ["x", "x!"], **with_batches())
        assert found.providers["bulk"].refused == {"not_in_a_batch": 1}
        assert found.providers["bulk"].rows == found.routes[0].rows == 1


class TestDeadline:
    async def test_without_one_there_is_no_verdict(self, tmp_path: Path) -> None:
        found = await planned(tmp_path, ["x"], **with_batches())
        assert (found.deadline, found.routes[0].deadline) == (None, None)

    async def test_of_batches_is_met_when_all_rounds_are(self, tmp_path: Path) -> None:
        found = await planned(tmp_path, ["x" * 10] * 4, **with_batches(enqueued_tokens=20), deadline="48h")
        assert found.deadline == DeadlinePlan(deadline_s=172_800, verdict="fits")
        found = await planned(tmp_path, ["x" * 10] * 4, **with_batches(enqueued_tokens=20), deadline="47h")
        assert found.deadline == DeadlinePlan(deadline_s=169_200, verdict="may need the fallback", batches=1, rows=2)
        assert found.routes[0].deadline == found.deadline
        assert found.routes[1].deadline == DeadlinePlan(deadline_s=169_200, verdict="fits")

    async def test_without_a_fallback_they_may_miss_it(self, tmp_path: Path) -> None:
        found = await planned(tmp_path, ["x"] * 3, **with_batches(fallback=False), deadline="6h")
        late = DeadlinePlan(deadline_s=21_600, verdict="may be missed", batches=1, rows=3, stranded=3)
        assert found.deadline == found.routes[0].deadline == late

    async def test_of_a_route_is_its_own(self, tmp_path: Path) -> None:
        found = await planned(tmp_path, ["x"], **with_batches(route={"deadline": "2h"}), deadline="30h")
        assert found.deadline == DeadlinePlan(deadline_s=108_000, verdict="fits")
        assert found.routes[0].deadline is not None
        assert (found.routes[0].deadline.deadline_s, found.routes[0].deadline.rows) == (7200, 1)
        found = await planned(tmp_path, ["x"], **with_batches(route={"deadline": "30h"}), deadline="2h")
        assert found.routes[0].deadline is not None
        assert found.routes[0].deadline.deadline_s == 7200

    @pytest.mark.parametrize(("deadline", "verdict"), [("100s", "fits"), ("99s", "will be missed")])
    async def test_of_calls_is_compared_with_their_pace(self, tmp_path: Path, deadline: str, verdict: str) -> None:
        one = provider(max_concurrency=1)
        found = await planned(tmp_path, ["x"] * 10, providers=one, latency=10.0, deadline=deadline)
        assert found.deadline is not None
        assert (found.deadline.verdict, found.deadline.batches) == (verdict, 0)

    async def test_nobody_knows_which_of_two_routes_comes_first(self, tmp_path: Path) -> None:
        routes = [{"when": {"prompt_chars": {"lt": 10}}, "to": "fast", "deadline": "15s"}, {"to": "fast"}]
        one = provider(max_concurrency=1)
        found = await planned(tmp_path, ["x", "x" * 50], providers=one, routes=routes, latency=10.0)
        assert found.routes[0].deadline == DeadlinePlan(deadline_s=15, verdict="may be missed")
        assert (found.routes[1].deadline, found.deadline) == (None, None)


class TestBudget:
    # 10 rows of 100 tokens in and 1000 out: high (100 x 0.25 + 1000 x 2) x 10 millionths = 0.02025, expected 0.0102075.
    # In the worst case one row is 100 bytes, its role 4, and 16 + 64 for what templates add: 84 more than 100 tokens.
    @pytest.mark.parametrize(
        ("usd", "verdict"),
        [
            (0.02025 + 84 * 0.25 / 1e6, "fits"),
            (0.02025 + 83 * 0.25 / 1e6, "may be reached"),
            (0.0102075, "may be reached"),
            (0.0102, "will be reached"),
        ],
    )
    async def test_is_compared_with_the_costs(self, tmp_path: Path, usd: float, verdict: Any) -> None:
        found = await planned(tmp_path, ["x" * 100] * 10, budget={"usd": usd})
        assert found.budget == BudgetPlan(usd=usd, verdict=verdict)
        assert found.routes[0].budget is None

    async def test_of_a_route_counts_its_rows_alone(self, tmp_path: Path) -> None:
        job = with_batches(route={"budget": {"usd": 0.002}})
        found = await planned(tmp_path, ["x", "x" * 200], **job)
        assert found.budget is None
        assert found.routes[0].budget == BudgetPlan(usd=0.002, verdict="fits")
        assert found.routes[1].budget is None

    async def test_needs_a_price(self, tmp_path: Path) -> None:
        found = await planned(tmp_path, ["x"], providers=provider(vendor=None), budget={"usd": 5})
        reason = "no price for model 'gpt-5-mini' in tier realtime: give the provider a `price`"
        assert found.budget == BudgetPlan(usd=5, verdict="would be refused", reason=reason)

    async def test_needs_a_price_of_the_fallback_too(self, tmp_path: Path) -> None:
        job = with_batches()
        job["providers"]["fast"]["vendor"] = None
        found = await planned(tmp_path, ["x"], **job, budget={"usd": 5})
        assert found.budget is not None
        assert found.budget.verdict == "would be refused"
        assert found.budget.reason is not None
        assert found.budget.reason.startswith("no price for model 'gpt-5-mini' of the fallback 'fast' in tier realtime")

    async def test_needs_a_bound_on_the_answers(self, tmp_path: Path) -> None:
        found = await planned(tmp_path, ["x"] * 2, params={}, budget={"usd": 5})
        reason = "set max_tokens: 2 rows have no bound on their answer"
        assert found.budget == BudgetPlan(usd=5, verdict="would be refused", reason=reason)

    async def test_needs_input_that_can_be_counted(self, tmp_path: Path) -> None:
        picture = [{"type": "image_url", "image_url": {"url": "https://example.com/x.png"}}]
        row = {"id": "a", "messages": [{"role": "user", "content": picture}]}
        found = await planned(tmp_path, [row], budget={"usd": 5})
        assert found.budget is not None
        assert (found.budget.verdict, "images" in str(found.budget.reason)) == ("would be refused", True)

    async def test_of_one_route_asks_nothing_of_the_others(self, tmp_path: Path) -> None:
        job = with_batches(fallback=False, route={"budget": {"usd": 5}})
        job["providers"]["fast"]["vendor"] = None
        found = await planned(tmp_path, ["x", "x" * 200], **job)
        assert found.routes[0].budget == BudgetPlan(usd=5, verdict="fits")

    async def test_what_is_free_needs_neither_price_nor_bound(self, tmp_path: Path) -> None:
        free = provider(vendor=None, price={"input": 0, "output": 0})
        found = await planned(tmp_path, ["x"], providers=free, params={}, budget={"usd": 5})
        assert found.budget == BudgetPlan(usd=5, verdict="fits")
