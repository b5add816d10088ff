"""Rows that say themselves how to ask: ``params`` and ``model``, or the members of a chat request body as columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from promptmill import jsontext
from promptmill._template.batchline import BadLine
from promptmill.jsontext import JSON

PARAMS: Final = "params"

_TEXTS: Final = frozenset(
    {*("model", "reasoning_effort", "service_tier", "stop", "tool_choice", "verbosity", "user", "safety_identifier")}
)
"""Members that may be text; a text in any other, as CSV has it, is read as JSON."""

_IN_BODIES: Final = frozenset(
    {*("n", "user", "metadata", "store", "modalities", "audio", "prediction"), "stream_options", "safety_identifier"}
)
"""Members that are taken for such where there are ``messages`` too: elsewhere they are more likely data."""

_ASKING: Final = (_TEXTS - _IN_BODIES) | frozenset(
    {
        *("temperature", "top_p", "top_k", "min_p", "max_tokens", "max_completion_tokens", "seed", "logit_bias"),
        *("frequency_penalty", "presence_penalty", "repetition_penalty", "logprobs", "top_logprobs", "response_format"),
        *("tools", "parallel_tool_calls", "stream"),
    }
)
"""Members of a request body that are hardly ever anything else."""


def own_columns(columns: Mapping[str, JSON]) -> frozenset[str]:
    """The columns of a row that are parameters of its request: `params`, and all that belong into a request body when
    the row is one, as its `messages` or its `model` say."""
    if isinstance(columns.get("messages"), list):
        return (_ASKING | _IN_BODIES | {PARAMS}).intersection(columns)
    return (_ASKING | {PARAMS} if columns.get("model") else frozenset([PARAMS])).intersection(columns)


def looks_like_asking(column: str) -> bool:
    """Whether a column that nothing uses may have been meant as a parameter."""
    return column in _ASKING or column == PARAMS


def own_params(columns: Mapping[str, JSON]) -> dict[str, JSON]:
    """The parameters a row has of its own; a null or an empty text is none.

    Raises:
        BadLine: ``bad_params``, when one cannot be sent.
    """
    names = own_columns(columns)
    if not names:
        return {}
    found: dict[str, JSON] = {}
    for name in sorted(names - {PARAMS}):
        value = _value(name, columns[name])
        if value is not None:
            found[name] = value
    more = _value(PARAMS, columns[PARAMS]) if PARAMS in names else None
    if more is not None and not isinstance(more, dict):
        raise BadLine("bad_params", f"the column `params` is not a mapping of parameters: {_shown(more)}")
    for name, value in (more or {}).items():
        if name == "messages" or found.get(name, value) != value:
            what = "holds the messages" if name == "messages" else f"says another `{name}` than the column does"
            raise BadLine("bad_params", f"the column `params` {what}")
        found[name] = value
    if "model" in found and not isinstance(found["model"], str):
        raise BadLine("bad_params", f"the model is not text: {_shown(found['model'])}")
    if found.pop("stream", False):
        raise BadLine("bad_params", "`stream` cannot be asked for: answers are taken whole")
    return found


def _value(name: str, value: JSON) -> Any:
    if not isinstance(value, str) or name in _TEXTS:
        return value or None if isinstance(value, str) else value
    if not value.strip():
        return None
    try:
        return jsontext.decode(value)
    except jsontext.BadJSON:
        raise BadLine("bad_params", f"the column {name!r} is not a value for that parameter: {_shown(value)}") from None


def _shown(value: JSON) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
