"""Rows that are lines of a batch file: ``{custom_id, method, url, body}``, taken as they are."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from promptmill.jsontext import JSON
from promptmill.models import Message

LINE_KEYS: Final = frozenset({"custom_id", "method", "url", "body"})

# A path, never a host: the data of a row does not say where a request goes.
_PATH: Final = re.compile(r"/(?:[\w.-]+/)*(chat/completions|responses|embeddings)")
_OPERATIONS: Final = {"chat/completions": "chat", "responses": "responses", "embeddings": "embeddings"}


class BadLine(Exception):
    """The line cannot become a request; ``code`` is that of its failed record."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class BatchLine(msgspec.Struct, frozen=True):
    """What a batch line asks for."""

    operation: str
    messages: tuple[Message, ...]
    params: Mapping[str, JSON]


def is_batch_line(columns: Mapping[str, JSON]) -> bool:
    """Whether a row has the four members of a batch line."""
    return columns.keys() >= LINE_KEYS and isinstance(columns["body"], dict)


def read_batch_line(columns: Mapping[str, JSON]) -> BatchLine:
    """Read one line.

    Raises:
        BadLine: ``unsupported_url``, ``unsupported_method`` or ``bad_messages``.
    """
    url, method, body = columns["url"], columns["method"], columns["body"]
    path = _PATH.fullmatch(url) if isinstance(url, str) else None
    if path is None:
        raise BadLine(
            "unsupported_url", f"the url {url!r} is not a path that ends in chat/completions, responses or embeddings"
        )
    if not isinstance(method, str) or method.upper() != "POST":
        raise BadLine("unsupported_method", f"the method {method!r} is not POST")
    operation = _OPERATIONS[path[1]]
    if operation != "chat":
        return BatchLine(operation, (), body)
    rest = {key: value for key, value in body.items() if key != "messages"}
    return BatchLine(operation, read_messages(body.get("messages"), "body.messages"), rest)


def read_messages(value: JSON, where: str) -> tuple[Message, ...]:
    """Chat messages from data.

    Raises:
        BadLine: ``bad_messages``, when it is not a list of messages.
    """
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise BadLine("bad_messages", f"`{where}` is not a list of chat messages")
    messages = []
    for number, one in enumerate(value):
        try:
            if not isinstance(one, Mapping):
                raise TypeError("not an object")
            messages.append(Message.from_dict(one))
        except (ValueError, TypeError, msgspec.ValidationError) as error:
            raise BadLine("bad_messages", f"`{where}[{number}]` is not a chat message: {error}") from error
    return tuple(messages)
