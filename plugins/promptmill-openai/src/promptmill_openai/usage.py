"""Token counts as servers report them: missing, null, partial or absurd counts are unknown, never zero."""

from __future__ import annotations

from typing import Final

from promptmill.jsontext import JSON
from promptmill.models import UNKNOWN_USAGE, Usage

MOST_TOKENS: Final = 1_000_000_000
"""A count above this is no count of tokens: unknown."""


def chat_usage(usage: JSON) -> Usage:
    """Usage of a chat reply.

    ``reasoning_tokens`` at the top is SGLang's, ``prompt_cache_hit_tokens`` DeepSeek's; the rest is OpenAI's.
    """
    if not isinstance(usage, dict):
        return UNKNOWN_USAGE
    cached = _count(usage.get("prompt_tokens_details"), "cached_tokens")
    reasoning = _count(usage.get("completion_tokens_details"), "reasoning_tokens")
    return Usage(
        input_tokens=_count(usage, "prompt_tokens"),
        cached_tokens=_count(usage, "prompt_cache_hit_tokens") if cached is None else cached,
        output_tokens=_count(usage, "completion_tokens"),
        reasoning_tokens=_count(usage, "reasoning_tokens") if reasoning is None else reasoning,
    )


def responses_usage(usage: JSON) -> Usage:
    """Usage of a reply of the responses endpoint."""
    if not isinstance(usage, dict):
        return UNKNOWN_USAGE
    return Usage(
        input_tokens=_count(usage, "input_tokens"),
        cached_tokens=_count(usage.get("input_tokens_details"), "cached_tokens"),
        output_tokens=_count(usage, "output_tokens"),
        reasoning_tokens=_count(usage.get("output_tokens_details"), "reasoning_tokens"),
    )


def embeddings_usage(usage: JSON) -> Usage:
    """Usage of an embeddings reply. There is no output: its count is a known zero where the input is known."""
    tokens = _count(usage, "prompt_tokens")
    return UNKNOWN_USAGE if tokens is None else Usage(input_tokens=tokens, output_tokens=0)


def _count(usage: JSON, name: str) -> int | None:
    """The member ``name`` of ``usage`` if both are what they should be."""
    value = usage.get(name) if isinstance(usage, dict) else None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS else None
