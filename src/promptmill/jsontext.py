"""JSON in and out: one encoder and one decoder for the whole project.

msgspec does the work. Text from models and users can be hostile, so :func:`decode` turns every way in which
foreign bytes can break a parser into one exception, and :func:`encode` always produces valid UTF-8.
"""

from __future__ import annotations

import json
from typing import Any, TypeAlias

import msgspec

JSON: TypeAlias = Any
"""A JSON value: None, bool, int, float, str, list or dict with str keys."""

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()


class BadJSON(ValueError):
    """The bytes are not JSON that can be read: malformed, too deep, or with an absurd number."""


def encode(value: object) -> bytes:
    """Return compact UTF-8 JSON of ``value`` (records, dicts, lists, scalars). Lone surrogates become U+FFFD."""
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        return _encoder.encode(without_surrogates(msgspec.to_builtins(value)))


def decode(data: bytes | bytearray | memoryview | str) -> JSON:
    """Parse one JSON document.

    A leading byte order mark is accepted and lone surrogate escapes become U+FFFD, since real servers send both.

    Raises:
        BadJSON: for everything else that is not one finite JSON document.
    """
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as first:
        if isinstance(first, RecursionError):
            raise BadJSON("nested too deeply") from first
        return _decode_leniently(data, first)


def _decode_leniently(data: bytes | bytearray | memoryview | str, first: Exception) -> JSON:
    """Second look with the standard library, which reads lone surrogates and can be told to refuse NaN."""
    try:
        text = data if isinstance(data, str) else bytes(data).decode("utf-8")
        return without_surrogates(json.loads(text.removeprefix("\ufeff"), parse_constant=_refuse_constant))
    except (ValueError, RecursionError) as second:
        reason = second if isinstance(second, json.JSONDecodeError) else first
        raise BadJSON(str(reason)) from second


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def without_surrogates(value: JSON) -> JSON:
    """Return ``value`` with each lone surrogate in any string replaced by U+FFFD."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return "".join(REPLACEMENT if "\ud800" <= char <= "\udfff" else char for char in value)
        return value
    if isinstance(value, list | tuple):
        return [without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {without_surrogates(key): without_surrogates(item) for key, item in value.items()}
    return value
