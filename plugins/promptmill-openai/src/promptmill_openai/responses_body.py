"""From the common chat form to a body of the responses endpoint.

Source: ``EasyInputMessageParam``, ``ResponseFunctionToolCallParam``, ``FunctionToolParam`` and their neighbours in the
official SDK 3.54.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from promptmill.jsontext import JSON
from promptmill.models import Message

_NESTED: Final[Mapping[str, tuple[str, str]]] = {
    "reasoning_effort": ("reasoning", "effort"),
    "verbosity": ("text", "verbosity"),
    "response_format": ("text", "format"),
}
"""Members of a chat body that the responses endpoint wants inside another."""

_LIMITS: Final = ("max_tokens", "max_completion_tokens")


def body_of(messages: Sequence[Message], params: Mapping[str, JSON]) -> dict[str, JSON]:
    """The body for a chat: ``input``, ``instructions`` and the params under their names there.

    A system message at the start becomes the instructions, unless the params hold some; later ones become developer
    messages. Params that the endpoint does not know (``seed``, ``stop``, ``n``) go along as they are: the server
    refuses them, which is better than leaving them out in silence.
    """
    body = _renamed(params)
    rest = list(messages)
    if rest and rest[0].role == "system" and "instructions" not in body:
        body["instructions"] = rest.pop(0).text
    body["input"] = [item for message in rest for item in _items(message)]
    return body


def _renamed(params: Mapping[str, JSON]) -> dict[str, JSON]:
    body: dict[str, JSON] = {name: params[name] for name in params if name not in _NESTED and name not in _LIMITS}
    for name in _LIMITS:
        if params.get(name) is not None and "max_output_tokens" not in params:
            body["max_output_tokens"] = params[name]
    for name, (outer, inner) in _NESTED.items():
        if params.get(name) is not None:
            value = _flattened(params[name], "json_schema") if name == "response_format" else params[name]
            given = body.get(outer)
            body[outer] = {inner: value, **(given if isinstance(given, dict) else {})}
    if isinstance(params.get("tools"), list):
        body["tools"] = [_flattened(tool, "function") for tool in params["tools"]]
    if "tool_choice" in params:
        body["tool_choice"] = _flattened(params["tool_choice"], "function")
    return body


def _flattened(value: JSON, kind: str) -> JSON:
    """``{"type": kind, kind: {...}}`` as ``{"type": kind, ...}``; anything else as it is."""
    if isinstance(value, dict) and value.get("type") == kind and isinstance(value.get(kind), dict):
        return {"type": kind, **value[kind]}
    return value


def _items(message: Message) -> list[dict[str, JSON]]:
    if message.role == "tool":
        output = {"call_id": message.extra.get("tool_call_id"), "output": message.text}
        return [{"type": "function_call_output", **output}]
    items: list[dict[str, JSON]] = []
    if message.content:
        role = "developer" if message.role == "system" else message.role
        items.append({"role": role, "content": _content(message)})
    return items + list(map(_call, _functions(message)))


def _functions(message: Message) -> list[dict[str, JSON]]:
    calls = message.extra.get("tool_calls")
    found = calls if isinstance(calls, list) else []
    return [call for call in found if isinstance(call, dict) and isinstance(call.get("function"), dict)]


def _call(call: dict[str, Any]) -> dict[str, JSON]:
    return {"type": "function_call", "call_id": call.get("id"), **call["function"]}


def _content(message: Message) -> JSON:
    if not isinstance(message.content, list):
        return message.content
    return [_part(part, "output_text" if message.role == "assistant" else "input_text") for part in message.content]


def _part(part: dict[str, Any], text_type: str) -> dict[str, JSON]:
    kind = part.get("type")
    if kind == "text":
        return {**part, "type": text_type}
    if kind == "image_url" and isinstance(part.get("image_url"), dict):
        image = part["image_url"]
        return {"type": "input_image", "image_url": image.get("url"), "detail": image.get("detail") or "auto"}
    if kind == "file" and isinstance(part.get("file"), dict):
        return {"type": "input_file", **part["file"]}
    return part
