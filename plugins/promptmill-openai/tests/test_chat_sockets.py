"""``openai-chat`` over real sockets and the default backend, against a server that misbehaves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from promptmill import jsontext
from promptmill.errors import AuthFailed, BadOutput, NeverSent, ProviderError, Transient
from promptmill.models import Message, Request, Response
from promptmill.options import BuildContext
from promptmill.testing.badserver import (
    Answer,
    BadServer,
    Close,
    Hang,
    Received,
    Reset,
    Send,
    chunked_reply,
    gzip_bomb,
    http_reply,
)
from promptmill_openai import OpenAIChat, OpenAIChatOptions

QUESTION = Request(id="1", messages=(Message("user", "Say 4."),))


def completion(text: str = "4") -> bytes:
    message = {"role": "assistant", "content": text}
    return jsontext.encode({"model": "gpt-x", "choices": [{"finish_reason": "stop", "message": message}]})


def echo(received: Received) -> bytes:
    return http_reply(completion(jsontext.decode(received.body)["messages"][-1]["content"]))


def provider(server: BadServer, **settings: Any) -> OpenAIChat:
    options = OpenAIChatOptions.model_validate({"model": "gpt-x", "base_url": server.url, **settings})
    return options.build(BuildContext(name="fast"))


async def ask(script: Sequence[Answer], **settings: Any) -> Response:
    async with BadServer(script) as server, provider(server, **settings) as chat:
        return await chat.complete(QUESTION, timeout=5)


@pytest.mark.parametrize("backend", ["aiohttp", "httpx"])
async def test_a_question_and_its_answer(backend: str) -> None:
    async with BadServer(echo) as server, provider(server, http={"backend": backend}) as chat:
        answer = await chat.complete(QUESTION, timeout=5)
    assert answer.text == "Say 4."
    received = server.requests[0]
    assert (received.method, received.target) == ("POST", "/v1/chat/completions")
    assert jsontext.decode(received.body) == {
        "model": "gpt-x",
        "messages": [{"role": "user", "content": "Say 4."}],
    }


async def test_answers_find_their_questions() -> None:
    async def one(number: int) -> None:
        answer = await chat.complete(Request(id=str(number), messages=(Message("user", f"n{number}"),)), timeout=5)
        assert answer.text == f"n{number}"

    async with (
        BadServer(echo) as server,
        provider(server, max_concurrency=8) as chat,
        anyio.create_task_group() as group,
    ):
        for number in range(100):
            group.start_soon(one, number)
    assert len(server.requests) == 100


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ([Close()], Transient),
        ([Reset()], Transient),
        ([Send(http_reply(completion())[:-5]), Close()], Transient),
        ([Send(chunked_reply([completion()], complete=False)), Close()], Transient),
        (http_reply(b""), BadOutput),
        (http_reply(b"<html>sign in</html>", headers=[("content-type", "text/html")]), BadOutput),
        (http_reply(b'{"id": "chatcmpl-1"}'), BadOutput),
        (http_reply(b"<html>502</html>", status=502), Transient),
        (http_reply(b"Unauthorized", status=401, headers=[("content-type", "text/plain")]), AuthFailed),
        (http_reply(status=302, headers=[("location", "http://127.0.0.1:9/")]), ProviderError),
    ],
)
async def test_what_a_bad_server_does_is_a_failure(answer: Answer, kind: type[ProviderError]) -> None:
    with pytest.raises(kind):
        await ask([answer])


async def test_a_decompression_bomb_is_stopped() -> None:
    bomb = http_reply(gzip_bomb(50_000_000), headers=[("content-encoding", "gzip")])
    with pytest.raises(BadOutput, match="1000000"):
        await ask([bomb], http={"max_response_bytes": 1_000_000})


async def test_no_answer_within_the_time_is_transient() -> None:
    async with BadServer([[Hang()]]) as server, provider(server) as chat:
        with pytest.raises(Transient) as caught:
            await chat.complete(QUESTION, timeout=0.1)
    assert caught.value.code == "timeout"


async def test_nobody_listening_is_never_sent() -> None:
    async with BadServer() as server:
        chat = provider(server)
    async with chat:
        with pytest.raises(NeverSent):
            await chat.complete(QUESTION, timeout=5)
