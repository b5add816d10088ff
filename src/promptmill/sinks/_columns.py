"""The result record as one flat row: its fields as columns, and what each of them can hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from promptmill import jsontext
from promptmill.errors import RowRejected
from promptmill.models import Result

Kind: TypeAlias = Literal["text", "integer", "real", "boolean", "json"]
"""``integer`` has 64 bits, ``real`` is a double; ``json`` is the text of a JSON value."""

Cell: TypeAlias = str | int | float | bool | None

_INTEGERS: Final = range(-(2**63), 2**63)


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


def flatten(result: Result) -> list[Cell]:
    """The row of ``result``, in the order of :data:`COLUMNS`. Lone surrogates become U+FFFD.

    Raises:
        RowRejected: a number does not fit into its column.
    """
    row: list[Cell] = []
    for name, kind, read in COLUMNS:
        value = read(result)
        if kind == "text" and value is not None:
            value = jsontext.without_surrogates(value)
        elif kind == "integer" and value is not None and value not in _INTEGERS:
            raise RowRejected(f"the {name} {value!r} is not an integer of 64 bits", result_id=result.id)
        row.append(value)
    return row
