"""Checks of request fields, answered in the words of the API.

Source of the wording: replies of the official API as they appear in its community's reports.
"""

from __future__ import annotations

from typing import Any

from promptmill.jsontext import JSON
from promptmill_simulator.apierror import ApiError

_NAMES = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", int: "an integer", float: "a number"}


def type_name(value: JSON) -> str:
    """The JSON type of a value with its article, for messages."""
    return "null" if value is None else _NAMES.get(type(value), "something else")


def wrong_type(name: str, expected: str, value: JSON) -> ApiError:
    return ApiError(
        400,
        f"Invalid type for '{name}': expected {expected}, but got {type_name(value)} instead.",
        code="invalid_type",
        param=name,
    )


def required(body: dict[str, Any], name: str) -> JSON:
    """The member ``name``; raises ApiError when it is missing."""
    if body.get(name) is None:
        raise ApiError(400, f"Missing required parameter: '{name}'.", code="missing_required_parameter", param=name)
    return body[name]


def required_text(body: dict[str, Any], name: str) -> str:
    """The text member ``name``; raises ApiError when it is missing or no text."""
    value = required(body, name)
    if not isinstance(value, str):
        raise wrong_type(name, "a string", value)
    return value


def optional_count(body: dict[str, Any], *names: str, least: int = 1, most: int = 10_000_000) -> int | None:
    """The first of the integer members ``names`` that is given; raises ApiError when it is no integer in the range."""
    for name in names:
        value = body.get(name)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool):
            raise wrong_type(name, "an integer", value)
        if value < least:
            raise ApiError(
                400,
                f"Invalid '{name}': integer below minimum value. Expected a value >= {least}, but got {value} instead.",
                code="integer_below_min_value",
                param=name,
            )
        if value > most:
            raise ApiError(
                400,
                f"Invalid '{name}': integer above maximum value. Expected a value <= {most}, but got {value} instead.",
                code="integer_above_max_value",
                param=name,
            )
        return value
    return None


def checked_metadata(body: dict[str, Any]) -> dict[str, str] | None:
    """The member ``metadata``: at most 16 pairs, names to 64 characters, values to 512 (source: the API reference)."""
    value = body.get("metadata")
    if value is None:
        return None
    if not isinstance(value, dict):
        raise wrong_type("metadata", "an object", value)
    if len(value) > 16:
        raise ApiError(400, f"Invalid 'metadata': too many properties. Expected at most 16, got {len(value)}.",
                       code="object_above_max_properties", param="metadata")  # fmt: skip
    for key, item in value.items():
        if not isinstance(item, str):
            raise wrong_type(f"metadata.{key}", "a string", item)
        if len(key) > 64 or len(item) > 512:
            raise ApiError(400, "Invalid 'metadata': names have at most 64 characters, values at most 512.",
                           code="string_above_max_length", param="metadata")  # fmt: skip
    return value
