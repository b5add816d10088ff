"""The words of promptmill: frozen records that flow through a run.

A :class:`Request` goes in, a provider answers it with a :class:`Response`, and every request ends as exactly one
:class:`Result`, whose fields are the lines of the jsonl sink.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

import msgspec

from promptmill.jsontext import JSON

Priority: TypeAlias = Literal["urgent", "normal", "bulk"]
PRIORITIES: Final[tuple[Priority, ...]] = ("urgent", "normal", "bulk")

Status: TypeAlias = Literal["ok", "failed", "skipped"]

Tier: TypeAlias = Literal["realtime", "flex", "batch"]
"""How a request is billed: at the realtime price, or at the batch price in realtime (flex) or in a batch."""


class Message(msgspec.Struct, frozen=True):
    """One chat message.

    ``content`` is text, or a list of content parts (``{"type": "text", "text": ...}``, images and so on), or None.
    ``extra`` holds every further member as it came: ``name``, ``tool_calls``, ``tool_call_id``.
    """

    role: str
    content: str | list[dict[str, Any]] | None = None
    extra: Mapping[str, JSON] = {}

    @property
    def text(self) -> str:
        """The text of the message; the text parts joined when the content is a list."""
        if isinstance(self.content, str):
            return self.content
        parts = self.content or ()
        return "".join(part["text"] for part in parts if isinstance(part.get("text"), str))

    @property
    def has_image(self) -> bool:
        return not isinstance(self.content, str) and any(
            "image" in str(part.get("type", "")) for part in self.content or ()
        )

    def as_dict(self) -> dict[str, JSON]:
        """The message as the common chat form: ``{"role", "content", ...}``."""
        return {"role": self.role, "content": self.content, **self.extra}

    @classmethod
    def from_dict(cls, data: Mapping[str, JSON]) -> Message:
        """Read the common chat form. Raises ValueError or TypeError when it is not a message."""
        rest = {key: value for key, value in data.items() if key not in ("role", "content")}
        return msgspec.convert({"role": data.get("role"), "content": data.get("content"), "extra": rest}, cls)


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One unit of work. Never changed once made; providers must not write into its mappings.

    ``id`` is the user's name for it, unique in a run; ``index`` its 0-based position in the input. ``params`` are
    further members of the request body (``temperature``, ``max_tokens``, ``model`` ...). For an ``operation`` other
    than ``chat`` the whole body is in ``params``. ``meta`` is carried to the result untouched.
    """

    id: str
    index: int = 0
    messages: tuple[Message, ...] = ()
    params: Mapping[str, JSON] = {}
    operation: str = "chat"
    priority: Priority = "normal"
    tags: tuple[str, ...] = ()
    meta: Mapping[str, JSON] = {}

    @property
    def model(self) -> str | None:
        """The model this request asks for itself, if any; otherwise its provider's model is used."""
        value = self.params.get("model")
        return value if isinstance(value, str) else None

    @property
    def prompt_chars(self) -> int:
        """Characters of text over all messages."""
        return sum(len(message.text) for message in self.messages)

    @property
    def prompt_bytes(self) -> int:
        """UTF-8 bytes of text over all messages: what offline token estimates are made from."""
        return sum(len(message.text.encode("utf-8", "replace")) for message in self.messages)

    @property
    def has_images(self) -> bool:
        return any(message.has_image for message in self.messages)


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens as the provider reported them. None means unknown, never zero.

    ``input_tokens`` includes ``cached_tokens``; ``output_tokens`` includes ``reasoning_tokens``.
    """

    input_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None


UNKNOWN_USAGE: Final = Usage()


class TokenEstimate(msgspec.Struct, frozen=True):
    """Tokens expected before a call: the input, and the most the answer may have (None: no bound known)."""

    input_tokens: int
    output_tokens: int | None = None


LimitedThing: TypeAlias = Literal["requests", "tokens", "input_tokens", "output_tokens"]


class LimitReading(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider says of one of its limits, with an answer or a refusal. None: it does not say.

    ``window`` is the seconds the limit is for (60.0 for one a minute), ``limit`` the most in a window, ``remaining``
    what was left of it when the provider took the request, that request counted, and ``reset_in`` the seconds from then
    until all of it is there again.
    """

    what: LimitedThing
    window: float | None = None
    limit: float | None = None
    remaining: float | None = None
    reset_in: float | None = None


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider brings back for one request.

    ``finish_reason`` is ``stop``, ``length``, ``content_filter``, ``tool_calls`` or ``refusal``; reasons nobody has
    mapped yet pass through. ``body`` is the raw response body when there was one. ``model`` and ``tier`` are what
    the provider says it used. ``limits`` is what it says of its rate limits. ``first_byte_s`` are the seconds from
    sending the request to the first byte of the answer, where the provider measures them.
    """

    text: str | None
    finish_reason: str | None = None
    model: str | None = None
    tier: Tier = "realtime"
    usage: Usage = UNKNOWN_USAGE
    request_id: str | None = None
    body: bytes = b""
    limits: tuple[LimitReading, ...] = ()
    first_byte_s: float | None = None


class ErrorInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Why a request failed. ``code`` is stable and made for programs, ``message`` for people."""

    code: str
    message: str
    http_status: int | None = None
    retryable: bool = False


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The one terminal outcome of a request; the field order is the result record's (a contract).

    ``latency_s`` is the duration of the attempt that decided the outcome, in seconds; None when nothing was sent.
    ``cost_usd`` is None when it is not known.
    """

    id: str
    index: int
    status: Status
    text: str | None = None
    finish_reason: str | None = None
    provider: str | None = None
    model: str | None = None
    tier: Tier | None = None
    attempts: int = 0
    latency_s: float | None = None
    usage: Usage = UNKNOWN_USAGE
    cost_usd: float | None = None
    error: ErrorInfo | None = None
    meta: Mapping[str, JSON] = {}

    @property
    def ok(self) -> bool:
        return self.status == "ok"


class Origin(msgspec.Struct, frozen=True):
    """Where a row came from. ``line`` is 1-based, ``offset`` the byte offset of its start in the decoded stream."""

    file: str | None = None
    line: int | None = None
    offset: int | None = None

    def __str__(self) -> str:
        place = self.file or "input"
        if self.line is not None:
            place += f":{self.line}"
        return place if self.offset is None else f"{place} (byte {self.offset})"


class Row(msgspec.Struct, frozen=True):
    """One row of input: its columns by name, and where it came from."""

    columns: Mapping[str, JSON]
    origin: Origin = Origin()


class BadRow(msgspec.Struct, frozen=True):
    """A row that could not be read. It becomes a failed record with this ``code``; the run goes on.

    ``key`` is the key of the job file's input that it is about, such as ``prompt``, where there is one.
    """

    code: str
    message: str
    origin: Origin = Origin()
    key: str | None = None
