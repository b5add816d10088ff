"""The result record as one flat row: its fields as columns, and what each of them can hold."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from promptmill import jsontext
from promptmill.errors import RowRejected
from promptmill.models import Result
from promptmill.sinks._altered import NUL, SURROGATE

Kind: TypeAlias = Literal["text", "integer", "real", "boolean", "json"]
"""``integer`` has 64 bits, ``real`` is a double; ``json`` is the text of a JSON value."""

Cell: TypeAlias = str | int | float | bool | None

_INTEGERS: Final = range(-(2**63), 2**63)

_NUL_ESCAPE: Final = "\\u0000"
_ESCAPE: Final = re.compile(r"\\(?:u0000|.)", re.DOTALL)


class Column(NamedTuple):
    """One column. ``read`` gives its value in a result, None when there is none."""

    name: str
    kind: Kind
    read: Callable[[Result], Any]


COLUMNS: Final = (
    Column("id", "text", lambda result: result.id),
    Column("index", "integer", lambda result: result.index),
    Column("status", "text", lambda result: result.status),
    Column("text", "text", lambda result: result.text),
    Column("finish_reason", "text", lambda result: result.finish_reason),
    Column("provider", "text", lambda result: result.provider),
    Column("model", "text", lambda result: result.model),
    Column("tier", "text", lambda result: result.tier),
    Column("attempts", "integer", lambda result: result.attempts),
    Column("latency_s", "real", lambda result: result.latency_s),
    Column("input_tokens", "integer", lambda result: result.usage.input_tokens),
    Column("cached_tokens", "integer", lambda result: result.usage.cached_tokens),
    Column("output_tokens", "integer", lambda result: result.usage.output_tokens),
    Column("reasoning_tokens", "integer", lambda result: result.usage.reasoning_tokens),
    Column("cost_usd", "real", lambda result: result.cost_usd),
    Column("error_code", "text", lambda result: result.error and result.error.code),
    Column("error_message", "text", lambda result: result.error and result.error.message),
    Column("error_http_status", "integer", lambda result: result.error and result.error.http_status),
    Column("error_retryable", "boolean", lambda result: result.error and result.error.retryable),
    Column("meta", "json", lambda result: jsontext.encode(result.meta).decode() if result.meta else None),
)


def flatten(result: Result, altered: Callable[[str], None], *, nul: bool = True) -> list[Cell]:
    """The row of ``result``, in the order of :data:`COLUMNS`.

    Lone surrogates become U+FFFD, and so do NUL characters where ``nul`` is False; ``altered`` hears of it. The id is
    not touched: two rows must not get the same one.

    Raises:
        RowRejected: a number does not fit into its column.
    """
    row: list[Cell] = []
    for name, kind, read in COLUMNS:
        value = read(result)
        if kind == "text" and value is not None:
            value = _storable(value, altered, nul=nul or name == "id")
        elif kind == "json" and value is not None and not nul and _NUL_ESCAPE in value:
            value = _without_nul_escapes(value, altered)
        elif kind == "integer" and value is not None and value not in _INTEGERS:
            raise RowRejected(f"the {name} {value!r} is not an integer of 64 bits", result_id=result.id)
        row.append(value)
    return row


def _storable(text: str, altered: Callable[[str], None], *, nul: bool) -> str:
    sound: str = jsontext.without_surrogates(text)
    if sound is not text:
        altered(SURROGATE)
    if not nul and "\0" in sound:
        altered(NUL)
        sound = sound.replace("\0", jsontext.REPLACEMENT)
    return sound


def _without_nul_escapes(text: str, altered: Callable[[str], None]) -> str:
    """The JSON text with its NUL characters replaced; an escaped backslash before ``u0000`` makes it none."""
    sound = _ESCAPE.sub(lambda found: jsontext.REPLACEMENT if found[0] == _NUL_ESCAPE else found[0], text)
    if sound != text:
        altered(NUL)
    return sound
