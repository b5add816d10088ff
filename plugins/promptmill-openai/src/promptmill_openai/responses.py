"""``openai-responses``: the responses endpoint, for its own bodies and for chats."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final

from pydantic import Field

from promptmill.hookspecs import hookimpl
from promptmill.interfaces import TOKENS_PER_REPLY, RealtimeProvider
from promptmill.jsontext import JSON
from promptmill.models import Request, Response, TokenEstimate
from promptmill.options import BuildContext, Register
from promptmill_openai.endpoint import Endpoint
from promptmill_openai.inputs import estimated_tokens
from promptmill_openai.responses_body import body_of
from promptmill_openai.responses_reply import read_response
from promptmill_openai.settings import OpenAIOptions

_NEVER: Final = ("stream", "stream_options", "background", "background_options")
"""Members that would make the reply something other than the whole answer."""

_OUTPUT_LIMITS: Final = ("max_output_tokens", "max_completion_tokens", "max_tokens")


class OpenAIResponses(RealtimeProvider):
    """Answers with one POST each. A request of operation ``responses`` has its whole body in its params; a chat is
    translated. Streaming and background mode are always off."""

    operations = frozenset({"chat", "responses"})

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

    def estimate(self, request: Request) -> TokenEstimate:
        return responses_estimate(request, super().estimate(request))

    async def complete(self, request: Request, *, timeout: float) -> Response:
        model = request.model or self.model
        body = responses_body(request, model, self._defaults, self._extra_body)
        return await self._endpoint.ask(body, timeout=timeout, read=partial(read_response, model=model))


def responses_body(
    request: Request, model: str | None, defaults: Mapping[str, JSON], extra: Mapping[str, JSON]
) -> dict[str, JSON]:
    """The body of a response: ``extra`` wins over the request, the request over ``defaults``."""
    own = request.operation == "responses"
    form = request.params if own else body_of(request.messages, request.params)
    body = {**defaults, **form, "model": model, **extra}
    for name in _NEVER:
        body.pop(name, None)
    return body


def responses_estimate(request: Request, chat: TokenEstimate) -> TokenEstimate:
    """Tokens of a request; ``chat`` is the estimate for its messages alone."""
    limits = (request.params.get(name) for name in _OUTPUT_LIMITS)
    limit = next((value for value in limits if isinstance(value, int)), None)
    if request.operation != "responses":
        return TokenEstimate(chat.input_tokens, limit)
    text = [request.params.get("input"), request.params.get("instructions")]
    return TokenEstimate(estimated_tokens(text) + TOKENS_PER_REPLY, limit)


class OpenAIResponsesOptions(OpenAIOptions):
    """Options of ``openai-responses``."""

    how_only = OpenAIOptions.how_only | {"service_tier"}

    service_tier: str | None = Field(None, description="auto, default, flex, priority, ...; a request's own wins.")

    def build(self, context: BuildContext) -> OpenAIResponses:
        return OpenAIResponses(
            self.endpoint_at("/responses", context),
            model=self.model,
            service_tier=self.service_tier,
            extra_body=self.extra_body,
        )


@hookimpl
def register_provider(register: Register) -> None:
    register("openai-responses", OpenAIResponsesOptions)
