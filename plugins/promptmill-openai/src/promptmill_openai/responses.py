"""``openai-responses``: the responses endpoint, for its own bodies and for chats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from promptmill.hookspecs import hookimpl
from promptmill.interfaces import TOKENS_PER_REPLY
from promptmill.jsontext import JSON
from promptmill.models import Request, Response, TokenEstimate
from promptmill.options import BuildContext, Register
from promptmill_openai.inputs import estimated_tokens
from promptmill_openai.responses_body import body_of
from promptmill_openai.responses_reply import read_response
from promptmill_openai.tiers import TieredOptions, TieredProvider

_NEVER: Final = ("stream", "stream_options", "background", "background_options")
"""Members that would make the reply something other than the whole answer."""

_OUTPUT_LIMITS: Final = ("max_output_tokens", "max_completion_tokens", "max_tokens")


class OpenAIResponses(TieredProvider):
    """Answers with one POST each. A request of operation ``responses`` has its whole body in its params; a chat is
    translated. Streaming and background mode are always off."""

    operations = frozenset({"chat", "responses"})

    def estimate(self, request: Request) -> TokenEstimate:
        return responses_estimate(request, super().estimate(request))

    async def complete(self, request: Request, *, timeout: float) -> Response:
        return await self._ask(request, responses_body, read_response, timeout)


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


class OpenAIResponsesOptions(TieredOptions):
    """Options of ``openai-responses``."""

    def build(self, context: BuildContext) -> OpenAIResponses:
        return OpenAIResponses(self.endpoint_at("/responses", context), self)


@hookimpl
def register_provider(register: Register) -> None:
    register("openai-responses", OpenAIResponsesOptions)
