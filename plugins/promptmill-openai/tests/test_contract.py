"""The contracts of providers, over real sockets, with a key that must not show."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from promptmill import jsontext
from promptmill.batch import BatchProvider
from promptmill.interfaces import RealtimeProvider
from promptmill.testing import BatchProviderContract, ProviderContract
from promptmill.testing.badserver import Answer, BadServer, Hang, Received, http_reply
from promptmill_openai import OpenAIBatchOptions, OpenAIChatOptions, OpenAIEmbeddingsOptions, OpenAIResponsesOptions

simulator = pytest.importorskip("promptmill_simulator")

REPLIES: dict[str, Any] = {
    "/v1/chat/completions": {"choices": [{"finish_reason": "stop", "message": {"content": "4"}}]},
    "/v1/responses": {"status": "completed", "output": [
        {"type": "message", "content": [{"type": "output_text", "text": "4"}]}
    ]},
    "/v1/embeddings": {"data": [{"index": 0, "embedding": [0.5]}]},
}  # fmt: skip


def play(received: Received) -> Answer:
    """Answer; or fail and send the key back, or hang, when the model is named so."""
    model = jsontext.decode(received.body)["model"]
    if model == "failing":
        return http_reply(b"your key is " + received.headers["authorization"].encode(), status=500)
    return [Hang()] if model == "hanging" else http_reply(jsontext.encode(REPLIES[received.target]))


class OpenAIContract(ProviderContract):
    url = "http://127.0.0.1:9"

    @pytest.fixture(autouse=True)
    def key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CANARY_KEY", self.canary)

    @asynccontextmanager
    async def surroundings(self) -> AsyncIterator[None]:
        async with BadServer(play) as server:
            self.url = server.url
            yield

    def settings(self) -> dict[str, Any]:
        return {"model": "gpt-x", "base_url": self.url, "api_key": "env:CANARY_KEY"}

    def make_failing(self) -> RealtimeProvider:
        return self.build({**self.settings(), "model": "failing"})

    def make_hanging(self) -> RealtimeProvider:
        return self.build({**self.settings(), "model": "hanging"})


class TestChat(OpenAIContract):
    options_class = OpenAIChatOptions


class TestResponses(OpenAIContract):
    options_class = OpenAIResponsesOptions


class TestEmbeddings(OpenAIContract):
    options_class = OpenAIEmbeddingsOptions


def refuse(received: Received) -> Answer:
    """Send the key back, or hang, when the path says so."""
    if received.target.startswith("/hanging"):
        return [Hang()]
    return http_reply(b"your key is " + received.headers["authorization"].encode(), status=500)


class BatchContract(BatchProviderContract):
    options_class = OpenAIBatchOptions
    url = bad_url = "http://127.0.0.1:9"
    endpoint = "chat"

    @pytest.fixture(autouse=True)
    def key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CANARY_KEY", self.canary)

    @asynccontextmanager
    async def surroundings(self) -> AsyncIterator[None]:
        options = simulator.SimulatorOptions.model_validate({"speed": 20_000, "batch": {"in_progress": 600}})
        async with BadServer(refuse) as server:
            self.bad_url = server.url
            with simulator.Simulator(options) as running:
                self.url = running.base_url
                yield

    def settings(self) -> dict[str, Any]:
        return {
            "model": "gpt-x",
            "base_url": self.url,
            "api_key": "env:CANARY_KEY",
            "endpoint": self.endpoint,
            "delete_files": True,
        }

    def make_failing(self) -> BatchProvider:
        return self.build({**self.settings(), "base_url": f"{self.bad_url}/failing"})

    def make_hanging(self) -> BatchProvider:
        return self.build({**self.settings(), "base_url": f"{self.bad_url}/hanging"})


class TestBatch(BatchContract):
    pass


class TestBatchOfResponses(BatchContract):
    endpoint = "responses"


class TestBatchOfEmbeddings(BatchContract):
    endpoint = "embeddings"
