"""What calls cost. The expected sums are worked out by hand from the vendors' price lists of November 2026."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from promptmill._pricing import MOST_MODELS, PriceTable, Tariff, planned, tariffs
from promptmill.clock import SystemClock
from promptmill.interfaces import Provider
from promptmill.models import Tier, Usage
from promptmill.options import BuildContext, Price, ProviderOptions

MILLION = 1_000_000
NOVEMBER_2026 = datetime(2026, 11, 22, 12, 0, tzinfo=UTC).timestamp()


class Wall(SystemClock):
    """A clock whose wall time stands still."""

    def __init__(self, wall: float = NOVEMBER_2026) -> None:
        self.time = wall

    def wall(self) -> float:
        return self.time


def provider(vendor: str | None = None, *, free: bool = False, model: str | None = None) -> Provider:
    one = Provider()
    one.price_vendor = vendor
    one.free = free
    one.model = model
    return one


def tariff(vendor: str | None = None, *, free: bool = False, wall: Wall | None = None, **given: Any) -> Tariff:
    price = Price.model_validate(given) if given else None
    return Tariff(provider(vendor, free=free), price, PriceTable(wall or Wall()))


def usage(input_tokens: int | None, output_tokens: int | None, cached: int | None = 0, reasoning: int = 0) -> Usage:
    return Usage(
        input_tokens=input_tokens, output_tokens=output_tokens, cached_tokens=cached, reasoning_tokens=reasoning
    )


class TestByHand:
    @pytest.mark.parametrize(
        ("vendor", "model", "tier", "tokens", "usd"),
        [
            # 0.8 x 0.25 + 0.2 x 0.025 + 1 x 2, and half of it in flex and in a batch.
            ("openai", "gpt-5-mini", "realtime", usage(MILLION, MILLION, 200_000), 2.205),
            ("openai", "gpt-5-mini", "flex", usage(MILLION, MILLION, 200_000), 1.1025),
            ("openai", "gpt-5-mini", "batch", usage(MILLION, MILLION, 200_000), 1.1025),
            # 0.8 x 0.15 + 0.2 x 0.075 + 0.6; its batch price has no discount for cached input: 0.075 + 0.3.
            ("openai", "gpt-4o-mini", "realtime", usage(MILLION, MILLION, 200_000), 0.735),
            ("openai", "gpt-4o-mini", "batch", usage(MILLION, MILLION, 200_000), 0.375),
            # 0.1 x 3 + 0.05 x 0.3 + 0.1 x 15, and half of it in a batch.
            ("anthropic", "claude-sonnet-4-5", "realtime", usage(150_000, 100_000, 50_000), 1.815),
            ("anthropic", "claude-sonnet-4-5", "batch", usage(150_000, 100_000, 50_000), 0.9075),
            # The record shown in the docs: 52 x 0.25 + 80 x 2 millionths.
            ("openai", "gpt-5-mini", "realtime", usage(52, 80), 0.000173),
            # A name with a date, as replies give it.
            ("openai", "gpt-5-mini-2025-08-07", "realtime", usage(52, 80), 0.000173),
            # Embeddings have no output, so their price is that of the input alone.
            ("openai", "text-embedding-3-small", "realtime", usage(MILLION, 0), 0.02),
        ],
    )
    def test_a_call(self, vendor: str, model: str, tier: Tier, tokens: Usage, usd: float) -> None:
        assert tariff(vendor).cost(tokens, model, tier) == usd

    @pytest.mark.parametrize(
        ("vendor", "model", "realtime", "flex", "batch"),
        [
            # 12,000 tokens in, 2,000 of them cached; 3,000 out, 2,500 of them reasoning, which is output.
            # 10,000 x 0.25 + 2,000 x 0.025 + 3,000 x 2 = 2,500 + 50 + 6,000 millionths; flex and batch are half of it.
            ("openai", "gpt-5-mini", 0.00855, 0.004275, 0.004275),
            # 10,000 x 0.15 + 2,000 x 0.075 + 3,000 x 0.6 = 1,500 + 150 + 1,800. It has no flex price.
            # In a batch 12,000 x 0.075 + 3,000 x 0.3 = 900 + 900: cached input costs there what other input costs.
            ("openai", "gpt-4o-mini", 0.00345, None, 0.0018),
            # 10,000 x 3 + 2,000 x 0.3 + 3,000 x 15 = 30,000 + 600 + 45,000; a batch is half of it. No flex price here.
            ("anthropic", "claude-sonnet-4-5", 0.0756, None, 0.0378),
        ],
    )
    def test_a_call_with_cached_and_reasoning_tokens_in_each_tier(
        self, vendor: str, model: str, realtime: float, flex: float | None, batch: float
    ) -> None:
        one, tokens = tariff(vendor), usage(12_000, 3_000, 2_000, 2_500)
        tiers: tuple[Tier, ...] = ("realtime", "flex", "batch")
        assert [one.cost(tokens, model, tier) for tier in tiers] == [realtime, flex, batch]

    def test_reasoning_is_output(self) -> None:
        one = tariff("openai")
        assert one.cost(usage(100, 500, reasoning=400), "gpt-5-mini", "realtime") == 0.001025
        assert one.cost(usage(100, 500), "gpt-5-mini", "realtime") == 0.001025

    def test_a_large_input_has_the_higher_price_for_all_its_tokens(self) -> None:
        one = tariff("anthropic")
        assert one.cost(usage(200_000, 1000), "claude-sonnet-4-5", "realtime") == pytest.approx(0.2 * 3 + 0.001 * 15)
        assert one.cost(usage(200_001, 1000), "claude-sonnet-4-5", "realtime") == pytest.approx(
            0.200001 * 6 + 0.001 * 22.5
        )


class TestTheTable:
    @pytest.mark.parametrize("tier", ["realtime", "batch"])
    def test_prices_are_those_of_the_library(self, tier: Tier) -> None:
        from genai_prices import Usage as Tokens
        from genai_prices import calc_price
        from genai_prices.data_snapshot import get_snapshot

        at = datetime.fromtimestamp(NOVEMBER_2026, UTC)
        context = {"processing": "batch"} if tier == "batch" else {}
        table = PriceTable(Wall())
        compared = 0
        for listed in get_snapshot().providers:
            one = Tariff(provider(listed.id), None, table)
            for model in listed.models[::10]:
                for tokens in (usage(1234, 567, 890, 123), usage(345_678, 901, 234_567, 890)):
                    usd = one.cost(tokens, model.id, tier)
                    if usd is None:
                        continue
                    theirs = Tokens(
                        input_tokens=tokens.input_tokens,
                        cache_read_tokens=tokens.cached_tokens,
                        output_tokens=tokens.output_tokens,
                        output_reasoning_tokens=tokens.reasoning_tokens,
                    )
                    wanted = calc_price(
                        theirs, model.id, provider_id=listed.id, genai_request_timestamp=at, price_context=context
                    ).total_price
                    assert usd == pytest.approx(float(wanted), rel=1e-9, abs=1e-11), (listed.id, model.id)
                    compared += wanted > Decimal(0)
        assert compared > 15

    def test_prices_are_those_of_the_day(self) -> None:
        one = tariff("deepseek", wall=(wall := Wall(datetime(2025, 5, 1, 12, 0, tzinfo=UTC).timestamp())))
        by_day = one.cost(usage(MILLION, 0), "deepseek-chat", "realtime")
        wall.time += 6 * 3600
        by_night = one.cost(usage(MILLION, 0), "deepseek-chat", "realtime")
        assert (by_day, by_night) == (0.27, 0.135)

    def test_says_which_it_is(self) -> None:
        from importlib.metadata import version

        edition = PriceTable(Wall()).edition()
        assert edition.version == version("genai-prices")
        assert "2026-01-01" < edition.newest <= "2026-11-22"

    def test_is_not_imported_before_a_price_is_asked_for(self) -> None:
        program = (
            "import sys, promptmill.cli.main, promptmill._app\n"
            "from promptmill._pricing import PriceTable, Tariff\n"
            "from promptmill.clock import SystemClock\n"
            "from promptmill.interfaces import Provider\n"
            "from promptmill.models import Usage\n"
            "usage = Usage(input_tokens=1, output_tokens=1)\n"
            "Tariff(Provider(), None, PriceTable(SystemClock())).cost(usage, 'm', 'batch')\n"
            "print('genai_prices' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", check=True)
        assert done.stdout.strip() == "False"


class TestUnknown:
    @pytest.mark.parametrize(
        ("vendor", "model", "tier"),
        [
            (None, "gpt-5-mini", "realtime"),
            ("openai", None, "realtime"),
            ("openai", "a-model-of-my-own", "realtime"),
            ("nobody", "gpt-5-mini", "realtime"),
            ("openai", "whisper-1", "realtime"),
            # No price of its own for this tier: the library answers with that of realtime.
            ("openai", "gpt-4o-mini", "flex"),
            ("openai", "text-embedding-3-small", "batch"),
        ],
    )
    def test_price(self, vendor: str | None, model: str | None, tier: Tier) -> None:
        assert tariff(vendor).cost(usage(100, 10), model, tier) is None

    @pytest.mark.parametrize("tokens", [Usage(), usage(None, 5), usage(5, None)])
    def test_usage(self, tokens: Usage) -> None:
        assert tariff("openai").cost(tokens, "gpt-5-mini", "realtime") is None
        assert tariff(input=1, output=1).cost(tokens, "m", "realtime") is None

    def test_cached_tokens_are_taken_for_plain_ones(self) -> None:
        assert tariff("openai").cost(usage(MILLION, 0, None), "gpt-5-mini", "realtime") == 0.25

    def test_more_cached_than_there_are_count_as_all(self) -> None:
        assert tariff("openai").cost(usage(MILLION, 0, 5 * MILLION), "gpt-5-mini", "realtime") == 0.025

    def test_output_without_a_price_is_not_free(self) -> None:
        assert tariff("openai").cost(usage(10, 5), "text-embedding-3-small", "realtime") is None


class TestGiven:
    def test_prices_win_over_the_table_and_over_free(self) -> None:
        for one in (
            tariff("openai", input=1, output=2),
            tariff(free=True, input=1, output=2),
            tariff(input=1, output=2),
        ):
            assert not one.uses_table
            assert one.cost(usage(MILLION, MILLION, 500_000), "gpt-5-mini", "realtime") == 3.0

    def test_cached_input(self) -> None:
        assert tariff(input=1, output=2, cached_input=0.1).cost(usage(MILLION, 0, 500_000), None, "realtime") == 0.55

    def test_without_a_discount_other_tiers_are_unknown(self) -> None:
        one = tariff(input=1, output=2, batch_discount=0.5)
        assert one.cost(usage(MILLION, MILLION), "m", "batch") == 1.5
        assert one.cost(usage(MILLION, MILLION), "m", "flex") is None

    def test_a_discount_stands_in_for_what_the_table_lacks_and_wins_over_what_it_has(self) -> None:
        one = tariff("openai", batch_discount=0.2)
        assert one.cost(usage(MILLION, 0), "text-embedding-3-small", "batch") == 0.016
        assert one.cost(usage(MILLION, MILLION, 200_000), "gpt-5-mini", "batch") == pytest.approx(2.205 * 0.8)

    def test_a_vendor_stands_in_for_what_the_provider_does_not_know(self) -> None:
        one = tariff(vendor="openai")
        assert one.uses_table
        assert one.cost(usage(52, 80), "gpt-5-mini", "realtime") == 0.000173

    def test_zero_is_free_whatever_is_reported(self) -> None:
        one = tariff(input=0, output=0)
        assert one.cost(Usage(), "m", "batch") == 0.0
        assert tariff(input=0, output=0, cached_input=1).cost(Usage(), "m", "realtime") is None

    @pytest.mark.parametrize(
        "given",
        [
            {"input": 1},
            {"output": 1},
            {"cached_input": 1},
            {"input": -1, "output": 1},
            {"input": 1, "output": 1, "vendor": "openai"},
            {"batch_discount": 50},
            {"vendor": ""},
            {"inptu": 1},
        ],
    )
    def test_half_a_price_is_refused(self, given: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            Price.model_validate(given)


def test_a_provider_in_this_process_costs_nothing() -> None:
    assert tariff(free=True).cost(Usage(), "m", "realtime") == 0.0
    assert tariff(free=True, batch_discount=0.5).cost(usage(5, 5), "m", "batch") == 0.0


def test_a_server_that_invents_models_does_not_fill_the_memory() -> None:
    one = tariff(input=1, output=1)
    for number in range(2 * MOST_MODELS):
        one.cost(usage(1, 1), f"model-{number}", "realtime")
    assert len(one._known) <= MOST_MODELS + 1


def test_the_table_is_asked_once_for_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    bands = PriceTable.bands

    def counted(self: PriceTable, vendor: str, model: str, tier: Tier) -> Any:
        asked.append(model)
        return bands(self, vendor, model, tier)

    monkeypatch.setattr(PriceTable, "bands", counted)
    one = Tariff(provider("openai", model="gpt-5-mini"), None, PriceTable(Wall()))
    one.load()
    for _ in range(100):
        one.cost(usage(52, 80), "gpt-5-mini", "realtime")
    assert asked == ["gpt-5-mini"]


class KeyedOptions(ProviderOptions):
    def build(self, context: BuildContext) -> Provider:
        assert context.planning
        return provider("openai", model=self.model)


def test_providers_are_built_for_planning() -> None:
    context = BuildContext(name="plan", clock=Wall())
    options = {"fast": KeyedOptions(model="gpt-5-mini"), "own": KeyedOptions(price=Price(input=1, output=1))}
    assert planned(options, context)["fast"].model == "gpt-5-mini"
    found = tariffs(options, context)
    assert found["fast"].cost(usage(52, 80), "gpt-5-mini", "realtime") == 0.000173
    assert found["own"].cost(usage(MILLION, 0), "m", "realtime") == 1.0


def test_a_price_is_no_part_of_the_identity() -> None:
    assert KeyedOptions(model="m", price=Price(input=1, output=1)).identity() == KeyedOptions(model="m").identity()
