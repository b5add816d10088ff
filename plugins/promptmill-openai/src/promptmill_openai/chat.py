"""``openai-chat``: the chat completions endpoint of OpenAI, or of any server that speaks the same API."""

from __future__ import annotations

from collections.abc import Mapping

from promptmill.hookspecs import hookimpl
from promptmill.jsontext import JSON
from promptmill.models import Request, Response
from promptmill.options import BuildContext, Register
from promptmill_openai.reply import read_chat
from promptmill_openai.tiers import TieredOptions, TieredProvider


class OpenAIChat(TieredProvider):
    """Answers chat requests with one POST each.

    The request's params go into the body as they are: servers disagree on ``max_tokens`` and
    ``max_completion_tokens``, so neither is renamed. Streaming is always off.
    """

    operations = frozenset({"chat"})

    async def complete(self, request: Request, *, timeout: float) -> Response:
        return await self._ask(request, chat_body, read_chat, timeout)


def chat_body(
    request: Request, model: str | None, defaults: Mapping[str, JSON], extra: Mapping[str, JSON]
) -> dict[str, JSON]:
    """The body of a chat completion: ``extra`` wins over the request, the request over ``defaults``."""
    messages = [message.as_dict() for message in request.messages]
    body = {"messages": messages, **defaults, **request.params, "model": model, **extra}
    body.pop("stream", None)
    body.pop("stream_options", None)
    return body


class OpenAIChatOptions(TieredOptions):
    """Options of ``openai-chat``."""

    def build(self, context: BuildContext) -> OpenAIChat:
        return OpenAIChat(self.endpoint_at("/chat/completions", context), self)


@hookimpl
def register_provider(register: Register) -> None:
    register("openai-chat", OpenAIChatOptions)
