"""What an error body says, whatever its shape: a parser that takes anything and never raises.

Shapes seen: ``{"error": {...}}`` (OpenAI, vLLM, llama.cpp, OpenRouter), ``{"error": "text"}`` (Ollama), flat
``{"object": "error", ...}`` (SGLang), ``{"message": ...}`` (gateways), ``{"detail": "text"}`` and ``{"detail": [...]}``
(FastAPI), ``[{"error": ...}]`` (Google), HTML, plain text, and nothing at all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from promptmill import jsontext
from promptmill.jsontext import JSON

LONGEST_MESSAGE: Final = 1000
"""Characters of the server's message that are kept; some servers send the whole request back in it."""

_EXCERPT_BYTES: Final = 200
_NESTING: Final = 5
_DETAILS: Final = 5
_WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]{0,63}")
_HUMP: Final = re.compile("(?<=[a-z0-9])(?=[A-Z])")


class ErrorBody(msgspec.Struct, frozen=True):
    """What an error body says.

    ``code`` and ``type`` are the symbolic words of the server in snake_case; ``status`` is a numeric code in the body
    that is an HTTP error status (400 to 599). ``metadata`` is the member of that name (OpenRouter).
    """

    message: str = ""
    code: str | None = None
    type: str | None = None
    status: int | None = None
    metadata: Mapping[str, JSON] = {}

    def words(self) -> tuple[str, ...]:
        """The code, then the type, those that there are: the code is the finer one."""
        return tuple(word for word in (self.code, self.type) if word is not None)


def read_body(body: bytes) -> ErrorBody:
    """Read an error reply's body. Never raises."""
    try:
        value = jsontext.decode(body)
    except jsontext.BadJSON:
        text = " ".join(body[: 4 * _EXCERPT_BYTES].decode("utf-8", "replace").split())
        return ErrorBody(text[:_EXCERPT_BYTES])
    return read_value(value)


def read_value(value: JSON) -> ErrorBody:
    """Read an error from decoded JSON: a whole body, or its ``error`` member. Never raises."""
    for _ in range(_NESTING):
        if isinstance(value, list):
            if any(isinstance(item, dict) and "msg" in item for item in value):
                return ErrorBody(_cut("; ".join(_detail(item) for item in value[:_DETAILS])))
            value = value[0] if value else None
        elif isinstance(value, dict):
            inner = next((value[key] for key in ("error", "errors", "detail") if value.get(key)), None)
            if inner is None or (isinstance(inner, str) and isinstance(value.get("message"), str)):
                return _members(value)
            value = inner
        else:
            break
    return ErrorBody(_cut(value) if isinstance(value, str) else "")


def _members(error: Mapping[str, JSON]) -> ErrorBody:
    message = error.get("message")
    inner = error.get("innererror")
    code = _word(error.get("code")) or _word(inner.get("code") if isinstance(inner, dict) else None)
    metadata = error.get("metadata")
    return ErrorBody(
        message=_cut(message) if isinstance(message, str) else "",
        code=code,
        type=_word(error.get("type")),
        status=_status(error.get("code")),
        metadata=metadata if isinstance(metadata, dict) else {},
    )


def _detail(item: JSON) -> str:
    """One entry of FastAPI's list: ``{"loc": ["body", "messages"], "msg": "field required"}``."""
    if not isinstance(item, dict):
        return ""
    place = item.get("loc")
    prefix = ".".join(str(part) for part in place) + ": " if isinstance(place, list) else ""
    return prefix + str(item.get("msg", ""))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_MESSAGE else text[:LONGEST_MESSAGE] + "..."


def _word(value: JSON) -> str | None:
    if not isinstance(value, str) or not _WORD.fullmatch(value):
        return None
    return _HUMP.sub("_", value).lower()


def _status(value: JSON) -> int | None:
    if isinstance(value, str) and len(value) == 3 and value.isascii() and value.isdigit():
        value = int(value)
    return value if isinstance(value, int) and 400 <= value <= 599 else None
