"""Short ways to write a request and a result in a test."""

from __future__ import annotations

from typing import Any

from promptmill.models import Message, Request, Result


def request(prompt: str = "say hello", *, id: str = "1", **fields: Any) -> Request:  # noqa: A002 - the record's name
    """A chat request with one user message. ``fields`` are further fields of :class:`Request`."""
    fields.setdefault("messages", (Message("user", prompt),))
    return Request(id=id, **fields)


def result(text: str | None = "hello", *, id: str = "1", **fields: Any) -> Result:  # noqa: A002 - the record's name
    """An ok result. ``fields`` are further fields of :class:`Result`."""
    fields.setdefault("index", 0)
    fields.setdefault("status", "ok")
    return Result(id=id, text=text, **fields)
