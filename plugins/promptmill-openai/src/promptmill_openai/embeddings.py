"""``openai-embeddings``: the embeddings endpoint; the vector is the record's text, as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from promptmill import jsontext
from promptmill.errors import Permanent
from promptmill.hookspecs import hookimpl
from promptmill.http import HttpResponse
from promptmill.interfaces import RealtimeProvider
from promptmill.jsontext import JSON
from promptmill.models import Request, Response, TokenEstimate
from promptmill.options import BuildContext, Register
from promptmill_openai.endpoint import Endpoint
from promptmill_openai.inputs import estimated_tokens
from promptmill_openai.reply import bad_reply, json_object, model_of, refuse_error
from promptmill_openai.settings import OpenAIOptions
from promptmill_openai.usage import embeddings_usage


class OpenAIEmbeddings(RealtimeProvider):
    """Turns text into vectors with one POST each.

    The input is the param ``input``, or the text of the request's only message. The answer's text is a compact JSON
    array of numbers; an array of such arrays, in the order of the input, when the input is a list of texts (or of
    lists of token ids). Vectors are always asked for as numbers, never as base64.
    """

    operations = frozenset({"chat", "embeddings"})

    def __init__(self, endpoint: Endpoint, *, model: str, extra_body: Mapping[str, JSON]) -> None:
        self.model = model
        self.price_vendor = endpoint.price_vendor()
        self.queues = endpoint.is_own
        self.admission = "max" if endpoint.counts_the_higher else "sum"
        self._endpoint = endpoint
        self._extra_body = extra_body

    async def aopen(self) -> None:
        await self._endpoint.aopen()

    async def aclose(self) -> None:
        await self._endpoint.aclose()

    def estimate(self, request: Request) -> TokenEstimate:
        return embeddings_estimate(request)

    async def complete(self, request: Request, *, timeout: float) -> Response:
        model = request.model or self.model
        body = embeddings_body(request, model, {}, self._extra_body)
        read = partial(read_embeddings, count=count_of(body["input"]), model=model)
        return await self._endpoint.ask(body, timeout=timeout, read=read)


def embeddings_body(
    request: Request, model: str | None, defaults: Mapping[str, JSON], extra: Mapping[str, JSON]
) -> dict[str, JSON]:
    """The body for embeddings: ``extra`` wins over the request, the request over ``defaults``.

    Raises:
        Permanent: the request is not one text.
    """
    body = {"input": _input(request), **defaults, **request.params, "model": model, **extra}
    body.pop("encoding_format", None)
    return body


def embeddings_estimate(request: Request) -> TokenEstimate:
    """Tokens of the input; nothing comes out."""
    given = request.params.get("input")
    text = [message.text for message in request.messages] if given is None else given
    return TokenEstimate(max(1, estimated_tokens(text)), 0)


def read_embeddings(reply: HttpResponse, *, count: int | None, model: str | None) -> Response:
    """Read an embeddings reply with status 2xx.

    Args:
        reply: the reply.
        count: how many vectors were asked for with a list; None when the input was one text.
        model: the model asked for, kept when the reply names none.

    Raises:
        ProviderError: the body is no embeddings reply, lacks a vector, or holds an error instead.
    """
    value = json_object(reply)
    refuse_error(value, reply, instead_of="data")
    data = value.get("data")
    entries = [entry for entry in data if isinstance(entry, dict)] if isinstance(data, list) else []
    # Servers may answer out of order; those that give no index answer in order.
    if all(isinstance(entry.get("index"), int) for entry in entries):
        entries.sort(key=lambda entry: entry["index"])
    vectors = [entry.get("embedding") for entry in entries]
    if len(vectors) != (1 if count is None else count) or not all(map(_is_vector, vectors)):
        raise bad_reply(reply, "does not hold the vectors asked for")
    return Response(
        text=jsontext.encode(vectors[0] if count is None else vectors).decode(),
        finish_reason="stop",
        model=model_of(value, model),
        usage=embeddings_usage(value.get("usage")),
        request_id=reply.headers.get("x-request-id"),
        body=reply.body,
    )


def _input(request: Request) -> JSON:
    """The text of the only message; None when the params hold the input."""
    if "input" in request.params:
        return None
    if len(request.messages) != 1:
        raise Permanent(
            f"an embedding is made of one text, and the request has {len(request.messages)} messages: "
            "give it one message, or the text as the param 'input'",
            code="bad_request",
        )
    return request.messages[0].text


def count_of(given: JSON) -> int | None:
    """How many vectors a list of inputs stands for; None for one text or one list of token ids."""
    if isinstance(given, list) and given and isinstance(given[0], str | list):
        return len(given)
    return None


def _is_vector(value: JSON) -> bool:
    return isinstance(value, list) and bool(value) and all(type(number) in (float, int) for number in value)


class OpenAIEmbeddingsOptions(OpenAIOptions):
    """Options of ``openai-embeddings``."""

    def build(self, context: BuildContext) -> OpenAIEmbeddings:
        endpoint = self.endpoint_at("/embeddings", context)
        return OpenAIEmbeddings(endpoint, model=self.model, extra_body=self.extra_body)


@hookimpl
def register_provider(register: Register) -> None:
    register("openai-embeddings", OpenAIEmbeddingsOptions)
