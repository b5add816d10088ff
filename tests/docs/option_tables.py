"""Writes the tables of options in the reference from the classes that validate them.

Run it to bring the page up to date: ``.venv/bin/python tests/docs/option_tables.py``. A test fails when it is not. The
page marks each table: ``<!-- options: provider.llama -->`` ... ``<!-- end -->``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from promptmill._config.routes import RouteSpec
from promptmill._config.spec import NOT_YET, JobSpec, StopWhenSpec, TemplateSpec
from promptmill._registry import Registry
from promptmill.http import HttpSettings
from promptmill.options import Limits, ProviderOptions

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "job-file.md"

PARTS: dict[str, type[BaseModel]] = {
    "job": JobSpec,
    "template": TemplateSpec,
    "provider": ProviderOptions,
    "limits": Limits,
    "http": HttpSettings,
    "route": RouteSpec,
    "stop_when": StopWhenSpec,
}
_SECTIONS = {"Limits": "limits", "HttpSettings": "http", "StopWhenSpec": "stop_when", "MessageSpec": "messages"}
_TYPES = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "object": "mapping",
    "null": "",
}
_TABLE = re.compile(r"(<!-- options: ([\w.-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def updated(text: str) -> str:
    """The page with every table as the classes have it now."""
    return _TABLE.sub(lambda found: f"{found[1]}\n{table(found[2])}\n{found[4]}", text)


def shown(text: str) -> set[str]:
    """The names of the tables a page has."""
    return {found[2] for found in _TABLE.finditer(text)}


def table(name: str) -> str:
    """The table of a part of the job file, or of a component such as ``sink.csv``."""
    kind, _, component = name.partition(".")
    model = Registry().get(kind, component) if component else PARTS[name]
    shared = _rows(ProviderOptions) if kind == "provider" and component else {}
    rows = [row for key, row in _rows(model).items() if shared.get(key) != row]
    head = ["| key | value | default | meaning |", "| --- | --- | --- | --- |"]
    return "\n".join(head + rows) + "\n" if rows else "It has no options of its own.\n"


def _rows(model: type[BaseModel]) -> dict[str, str]:
    schema = model.model_json_schema()
    required = set(schema.get("required", ()))
    skipped = set(NOT_YET) if model is JobSpec else set()
    return {
        key: f"| `{key}` | {_type(one)} | {_default(key, one, required)} | {_cell(one.get('description', ''))} |"
        for key, one in schema.get("properties", {}).items()
        if key not in skipped
    }


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        section = _SECTIONS[schema["$ref"].rpartition("/")[2]]
        return f"mapping, see [{section}](#{section})"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if _is_duration(schema):
        return "duration"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(part for one in schema["anyOf"] if (part := _type(one))))
    if schema.get("pattern", "").startswith("^(env:"):
        return "secret"
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    return _TYPES.get(schema.get("type", ""), "anything")


def _is_duration(schema: dict[str, Any]) -> bool:
    texts = [one for one in schema.get("anyOf", ()) if "ms|s|m" in one.get("pattern", "")]
    return bool(texts)


def _default(key: str, schema: dict[str, Any], required: set[str]) -> str:
    if key in required:
        return "required"
    value = schema.get("default")
    if value in (None, {}, []) or "$ref" in schema or isinstance(value, dict):
        return ""
    if _is_duration(schema):
        return f"`{value:g}s`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text("utf-8")), "utf-8")
