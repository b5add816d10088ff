"""JSON in and out: one encoder and one decoder for the whole project.

msgspec does the work. Text from models and users can be hostile, so :func:`decode` turns every way in which
foreign bytes can break a parser into one exception, and :func:`encode` always produces valid UTF-8.
"""

from __future__ import annotations

import json
import logging
import math
from typing import Any, Final, TypeAlias

import msgspec

JSON: TypeAlias = Any
"""A JSON value: None, bool, int, float, str, list or dict with str keys."""

REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"

MAX_DEPTH: Final = 200
"""Deepest nesting accepted: far below what would exhaust the stack of whoever walks or encodes the value again."""

_log = logging.getLogger("promptmill")
_told: list[bool] = []

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()


class BadJSON(ValueError):
    """The bytes are not JSON that can be read: malformed, nested too deeply, or with an absurd number."""


def encode(value: object) -> bytes:
    """Return compact UTF-8 JSON of ``value`` (records, dicts, lists, scalars). Lone surrogates become U+FFFD."""
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        return _encoder.encode(without_surrogates(msgspec.to_builtins(value)))


def decode(data: bytes | bytearray | memoryview | str) -> JSON:
    """Parse one JSON document.

    A leading byte order mark is accepted and lone surrogate escapes become U+FFFD, since real servers send both. The
    first time this changes a text it is logged as a warning.

    Raises:
        BadJSON: for everything else that is not one finite JSON document.
    """
    try:
        value = _decoder.decode(data)
    except RecursionError as error:
        raise BadJSON("nested too deeply") from error
    except (msgspec.DecodeError, UnicodeError) as first:
        value = _decode_leniently(data, first)
    if _may_be_deep(data) and _is_deep(value):
        raise BadJSON("nested too deeply")
    return value


def _decode_leniently(data: bytes | bytearray | memoryview | str, first: Exception) -> JSON:
    """Second look with the standard library, which reads lone surrogates and can be told to refuse NaN."""
    try:
        text = data if isinstance(data, str) else bytes(data).decode("utf-8")
        value = json.loads(text.removeprefix("\ufeff"), parse_constant=_refuse_constant, parse_float=_finite)
        sound = without_surrogates(value)
        if sound != value:
            _tell_once()
        return sound
    except RecursionError as second:
        raise BadJSON("nested too deeply") from second
    except ValueError as second:
        reason = second if isinstance(second, json.JSONDecodeError) else first
        raise BadJSON(str(reason)) from second


def _tell_once() -> None:
    if not _told:
        _told.append(True)
        _log.warning("text with lone surrogates, which are halves of characters, was read: U+FFFD stands for each")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"{digits} is out of range")
    return number


def _may_be_deep(data: bytes | bytearray | memoryview | str) -> bool:
    """Whether there are enough brackets for it: quick to tell, and false for nearly every document."""
    if len(data) <= MAX_DEPTH:
        return False
    if isinstance(data, str):
        return data.count("[") + data.count("{") > MAX_DEPTH
    raw = bytes(data) if isinstance(data, memoryview) else data
    return raw.count(b"[") + raw.count(b"{") > MAX_DEPTH


def _is_deep(value: JSON) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        inner = [one.values() if isinstance(one, dict) else one for one in level]
        level = [child for children in inner for child in children if isinstance(child, dict | list)]
        if not level:
            return False
    return True


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
