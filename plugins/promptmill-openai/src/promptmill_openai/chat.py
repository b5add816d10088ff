"""``openai-chat``: the chat completions endpoint of OpenAI, or of any server that speaks the same API."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from pydantic import Field

from promptmill.hookspecs import hookimpl
from promptmill.interfaces import RealtimeProvider
from promptmill.jsontext import JSON
from promptmill.models import Request, Response
from promptmill.options import BuildContext, Register
from promptmill_openai.endpoint import Endpoint
from promptmill_openai.reply import read_chat
from promptmill_openai.settings import OpenAIOptions


class OpenAIChat(RealtimeProvider):
    """Answers chat requests with one POST each.

    The request's params go into the body as they are: servers disagree on ``max_tokens`` and
    ``max_completion_tokens``, so neither is renamed. Streaming is always off.
    """

    operations = frozenset({"chat"})

    def __init__(
        self, endpoint: Endpoint, *, model: str, service_tier: str | None = None, extra_body: Mapping[str, JSON]
    ) -> None:
        self.model = model
        self.price_vendor = endpoint.price_vendor(service_tier)
        self.tier = "flex" if service_tier == "flex" else "realtime"
        self._endpoint = endpoint
        self._defaults: dict[str, JSON] = {} if service_tier is None else {"service_tier": service_tier}
        self._extra_body = extra_body

    async def aopen(self) -> None:
        await self._endpoint.aopen()

    async def aclose(self) -> None:
        await self._endpoint.aclose()

    async def complete(self, request: Request, *, timeout: float) -> Response:
        model = request.model or self.model
        body = chat_body(request, model, self._defaults, self._extra_body)
        return await self._endpoint.ask(body, timeout=timeout, read=partial(read_chat, model=model))


def chat_body(
    request: Request, model: str | None, defaults: Mapping[str, JSON], extra: Mapping[str, JSON]
) -> dict[str, JSON]:
    """The body of a chat completion: ``extra`` wins over the request, the request over ``defaults``."""
    messages = [message.as_dict() for message in request.messages]
    body = {"messages": messages, **defaults, **request.params, "model": model, **extra}
    body.pop("stream", None)
    body.pop("stream_options", None)
    return body


class OpenAIChatOptions(OpenAIOptions):
    """Options of ``openai-chat``."""

    how_only = OpenAIOptions.how_only | {"service_tier"}

    service_tier: str | None = Field(None, description="auto, default, flex, priority, ...; a request's own wins.")

    def build(self, context: BuildContext) -> OpenAIChat:
        return OpenAIChat(
            self.endpoint_at("/chat/completions", context),
            model=self.model,
            service_tier=self.service_tier,
            extra_body=self.extra_body,
        )


@hookimpl
def register_provider(register: Register) -> None:
    register("openai-chat", OpenAIChatOptions)
