"""Whose prices hold, and planning without a key."""

from __future__ import annotations

from typing import Any

import pytest

from promptmill.interfaces import Provider
from promptmill.options import BuildContext
from promptmill_openai import OpenAIChatOptions, OpenAIEmbeddingsOptions, OpenAIResponsesOptions
from promptmill_openai.settings import OpenAIOptions

PLANNING = BuildContext(name="fast", planning=True)
OPTIONS = [OpenAIChatOptions, OpenAIResponsesOptions, OpenAIEmbeddingsOptions]


def planned(options: type[OpenAIOptions] = OpenAIChatOptions, **given: Any) -> Provider:
    return options.model_validate({"model": "gpt-5-mini", **given}).build(PLANNING)


@pytest.mark.parametrize("options", OPTIONS)
def test_planning_needs_no_key(options: type[OpenAIOptions]) -> None:
    provider = planned(options, api_key="env:NOT_SET_ANYWHERE")
    assert (provider.model, provider.price_vendor, provider.free) == ("gpt-5-mini", "openai", False)
    assert planned(options).price_vendor == "openai"


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize(
    "base_url", ["http://127.0.0.1:8000/v1", "https://eu.api.openai.com/v1", "https://openrouter.ai/api/v1"]
)
def test_what_others_charge_is_not_known(options: type[OpenAIOptions], base_url: str) -> None:
    assert planned(options, base_url=base_url).price_vendor is None


def test_the_address_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1")
    assert planned().price_vendor is None


@pytest.mark.parametrize("options", OPTIONS[:2])
@pytest.mark.parametrize(
    ("service_tier", "tier", "vendor"),
    [
        (None, "realtime", "openai"),
        ("auto", "realtime", "openai"),
        ("flex", "flex", "openai"),
        ("priority", "realtime", None),
    ],
)
def test_the_service_tier_tells_how_calls_are_billed(
    options: type[OpenAIOptions], service_tier: str | None, tier: str, vendor: str | None
) -> None:
    provider = planned(options, service_tier=service_tier)
    assert (provider.tier, provider.price_vendor) == (tier, vendor)
