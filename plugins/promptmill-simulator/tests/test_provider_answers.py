from __future__ import annotations

from typing import Any

import httpx
import pytest

from promptmill.errors import PluginError, Transient, UsageError
from promptmill.interfaces import Provider, RealtimeProvider
from promptmill.models import Request, Response, Usage
from promptmill.options import BuildContext, ProviderOptions
from promptmill_simulator import ProviderChoice, Simulator, SimulatorOptions, provider_answers
from promptmill_simulator.provider_answers import find_provider, open_provider

BODY: Any = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 9, "temperature": 0}


class Parrot(RealtimeProvider):
    """Answers with what it was asked, and knows its own usage."""

    def __init__(self, word: str) -> None:
        self.word = word
        self.opened = 0

    async def aopen(self) -> None:
        self.opened += 1

    async def complete(self, request: Request, *, timeout: float) -> Response:
        if request.messages[0].text == "fail":
            raise Transient("no more seed", code="hungry", http_status=503)
        text = f"{self.word} {request.messages[0].text} {request.params['max_tokens']} {self.opened}"
        return Response(text=text, finish_reason="length", usage=Usage(input_tokens=3, output_tokens=4))


class ParrotOptions(ProviderOptions):
    word: str = "said"

    def build(self, context: BuildContext) -> Provider:
        return Parrot(self.word)


class NoOptions(ProviderOptions):
    def build(self, context: BuildContext) -> Provider:
        return Provider()


@pytest.fixture
def parrot(monkeypatch: pytest.MonkeyPatch) -> None:
    known: dict[str, Any] = {"parrot": ParrotOptions, "mute": NoOptions}
    monkeypatch.setattr(provider_answers, "find_provider", known.__getitem__)


def test_a_provider_answers_behind_the_simulator(parrot: None) -> None:
    choice = {"use": "parrot", "options": {"word": "sang"}}
    with Simulator(SimulatorOptions.model_validate({"answers_from": choice})) as sim:
        reply = httpx.post(f"{sim.base_url}/chat/completions", json=BODY).json()
        failed = httpx.post(
            f"{sim.base_url}/chat/completions", json={**BODY, "messages": [{"role": "user", "content": "fail"}]}
        )
        books = sim.ledger(0)
    assert reply["choices"][0]["message"]["content"] == "sang hi 9 1"
    assert reply["choices"][0]["finish_reason"] == "length"
    assert (reply["usage"]["prompt_tokens"], reply["usage"]["completion_tokens"]) == (3, 4)
    assert (failed.status_code, failed.json()["error"]["code"]) == (503, "hungry")
    assert (books["outcomes"]["answered"], books["outcomes"]["failed"]) == (1, 1)


async def test_wrong_options_and_kinds_are_told(parrot: None) -> None:
    with pytest.raises(UsageError, match="color: Extra inputs are not permitted"):
        async with open_provider(ProviderChoice(use="parrot", options={"color": "red"})):
            raise AssertionError
    with pytest.raises(PluginError, match="does not answer one request at a time"):
        async with open_provider(ProviderChoice(use="mute")):
            raise AssertionError


def test_unknown_providers_are_told() -> None:
    with pytest.raises(PluginError, match="no provider 'nobody' is installed"):
        find_provider("nobody")
