"""Fixtures of this plugin's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import respx

from promptmill.models import Message, Request
from promptmill.options import BuildContext
from promptmill_openai import OpenAIChat, OpenAIChatOptions

MakeChat = Callable[..., OpenAIChat]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The developer's own account is not the tests'."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def make_chat() -> MakeChat:
    """Builds a provider as a job would, on the backend respx can see."""

    def make(**settings: Any) -> OpenAIChat:
        merged = {"model": "gpt-x", "base_url": "http://llm.test/v1", "http": {"backend": "httpx"}, **settings}
        return OpenAIChatOptions.model_validate(merged).build(BuildContext(name="fast"))

    return make


@pytest.fixture
def wire() -> Iterator[respx.MockRouter]:
    """Every HTTP call of the test ends here."""
    with respx.mock(assert_all_called=False) as router:
        yield router


@pytest.fixture
def question() -> Request:
    return Request(id="1", messages=(Message("user", "What is 2 + 2?"),))
