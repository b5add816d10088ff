"""Chat completions as server-sent events. Shapes: ``CreateChatCompletionStreamResponse`` of the OpenAPI description."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from promptmill import jsontext
from promptmill_simulator.apierror import Reply

_WORDS_PER_CHUNK: Final = 8


def stream_reply(body: dict[str, Any], include_usage: bool) -> Reply:
    """Turn a whole completion into the events a client sees."""
    frame = {key: body[key] for key in ("id", "created", "model", "service_tier", "system_fingerprint")}
    frame["object"] = "chat.completion.chunk"
    chunks = [{**frame, "choices": [piece]} for choice in body["choices"] for piece in _pieces(choice)]
    if include_usage:
        chunks = [{**chunk, "usage": None} for chunk in chunks]
        chunks.append({**frame, "choices": [], "usage": body.get("usage")})
    events = b"".join(b"data: " + jsontext.encode(chunk) + b"\n\n" for chunk in chunks)
    return Reply(200, events + b"data: [DONE]\n\n", [(b"content-type", b"text/event-stream; charset=utf-8")])


def _pieces(choice: dict[str, Any]) -> Iterator[dict[str, Any]]:
    message = choice["message"]
    yield _piece(choice, {"role": "assistant", "content": "", "refusal": None})
    for name in ("content", "refusal"):
        words = (message[name] or "").split(" ")
        for start in range(0, len(words), _WORDS_PER_CHUNK):
            text = " ".join(words[start : start + _WORDS_PER_CHUNK])
            if text:
                yield _piece(choice, {name: text if start == 0 else f" {text}"})
    yield _piece(choice, {}, choice["finish_reason"])


def _piece(choice: dict[str, Any], delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": choice["index"], "delta": delta, "logprobs": None, "finish_reason": finish_reason}
