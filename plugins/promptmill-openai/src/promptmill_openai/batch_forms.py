"""The endpoints that batches are made for: what a line holds, and how its reply is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, Literal, TypeAlias

import msgspec

from promptmill.errors import Permanent
from promptmill.jsontext import JSON
from promptmill.models import Request, Response, TokenEstimate
from promptmill_openai.chat import chat_body
from promptmill_openai.embeddings import count_of, embeddings_body, embeddings_estimate, read_embeddings
from promptmill_openai.reply import read_chat
from promptmill_openai.responses import responses_body, responses_estimate
from promptmill_openai.responses_reply import read_response
from promptmill_openai.tiers import Bodies

FormName: TypeAlias = Literal["chat", "responses", "embeddings"]


class Form(msgspec.Struct, frozen=True):
    """One endpoint. ``estimate`` is given the estimate for a chat too; ``read`` is that of the realtime provider."""

    url: str
    operations: frozenset[str]
    body: Bodies
    read: Callable[..., Response]
    estimate: Callable[[Request, TokenEstimate], TokenEstimate]


def one_embedding_body(
    request: Request, model: str | None, defaults: Mapping[str, JSON], extra: Mapping[str, JSON]
) -> dict[str, JSON]:
    """The body for the embedding of one text.

    A batch may hold 50,000 inputs, however many requests they are in (the batch guide), and a line of results does not
    say whether a list was asked for: with one text a request, the limit of requests is that of inputs, and the answer
    is that of a realtime call.

    Raises:
        Permanent: the input is a list of texts, or not there.
    """
    body = embeddings_body(request, model, defaults, extra)
    if count_of(body["input"]) is not None:
        raise Permanent(
            "a request of a batch is one text, and this one's input is a list: "
            "give each text a row of its own, or send lists with openai-embeddings",
            code="bad_request",
        )
    return body


FORMS: Final[Mapping[FormName, Form]] = {
    "chat": Form(
        url="/v1/chat/completions",
        operations=frozenset({"chat"}),
        body=chat_body,
        read=read_chat,
        estimate=lambda _request, chat: chat,
    ),
    "responses": Form(
        url="/v1/responses",
        operations=frozenset({"chat", "responses"}),
        body=responses_body,
        read=read_response,
        estimate=responses_estimate,
    ),
    "embeddings": Form(
        url="/v1/embeddings",
        operations=frozenset({"chat", "embeddings"}),
        body=one_embedding_body,
        read=partial(read_embeddings, count=None),
        estimate=lambda request, _chat: embeddings_estimate(request),
    ),
}
