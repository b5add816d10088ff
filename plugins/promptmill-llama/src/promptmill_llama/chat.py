"""From a request to the chat body llama.cpp reads."""

from __future__ import annotations

from typing import Final

from promptmill import jsontext
from promptmill.errors import Permanent
from promptmill.jsontext import JSON
from promptmill.models import Message, Request

PASSED: Final = frozenset(
    {
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "seed",
        "stop",
        "presence_penalty",
        "frequency_penalty",
        "repeat_penalty",
        "response_format",
    }
)
"""Parameters handed on as they are. Source: the completion options of the llama.cpp server."""

REFUSED: Final = frozenset({"tools", "functions", "logprobs", "top_logprobs", "audio"})
"""Parameters that ask for an answer of a form this provider cannot give. All others do not matter here."""


def chat_body(request: Request, *, system: str, max_tokens: int) -> bytes:
    """The body for ``request``; ``system`` and ``max_tokens`` count where the request says nothing.

    Raises:
        Permanent: the request asks for what this provider cannot do.
    """
    params = request.params
    asked = sorted(name for name in REFUSED if params.get(name))
    if params.get("n") not in (None, 1):
        asked.append("n")
    if asked:
        raise Permanent(f"a local model has no {', '.join(asked)}", code="unsupported_parameter")
    body: dict[str, JSON] = {name: params[name] for name in PASSED if params.get(name) is not None}
    body["max_tokens"] = _token_limit(request, max_tokens)
    body["messages"] = _messages(request.messages, system)
    body |= {
        "stream": True,
        "stream_options": {"include_usage": True},
        # A chunk after each batch of the prompt: between them a call can be given up.
        "return_progress": True,
    }
    return jsontext.encode(body)


def _token_limit(request: Request, default: int) -> int:
    """The most tokens the answer may have.

    Raises:
        Permanent: the request gives a limit that is no positive whole number.
    """
    for name in ("max_completion_tokens", "max_tokens"):
        limit = request.params.get(name)
        if limit is None:
            continue
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
            raise Permanent(f"{name} must be a whole number of 1 or more, got {limit!r}", code="invalid_parameter")
        return limit
    return default


def _messages(messages: tuple[Message, ...], system: str) -> list[dict[str, JSON]]:
    if not messages:
        raise Permanent("the request has no messages", code="no_messages")
    plain = [{"role": _role(message), "content": _text(message)} for message in messages]
    if all(message["role"] != "system" for message in plain):
        # Without one, the model's own template puts in a text of its maker's.
        plain.insert(0, {"role": "system", "content": system})
    return plain


def _role(message: Message) -> str:
    # Chat templates know the older of the two names.
    return "system" if message.role == "developer" else message.role


def _text(message: Message) -> str:
    if isinstance(message.content, list):
        other = sorted({str(part.get("type")) for part in message.content} - {"text"})
        if other:
            raise Permanent(f"a local model takes only text, not {', '.join(other)}", code="unsupported_content")
    return message.text
