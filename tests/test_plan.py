"""What a job would come to, checked by hand on small jobs."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from promptmill._plan import JobPlan, Range, plan_job
from promptmill._registry import Registry
from promptmill.clock import VirtualClock
from promptmill.errors import InputError, JobError
from promptmill.interfaces import Provider
from promptmill.models import Request, TokenEstimate
from promptmill.options import BuildContext, ProviderOptions

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


class Ours(Registry):
    """The registry with the provider of these tests in it."""

    def get(self, kind: str, name: str) -> Any:
        return MeasuredOptions if (kind, name) == ("provider", "measured") else super().get(kind, name)


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
