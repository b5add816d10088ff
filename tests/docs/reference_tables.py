"""Writes the tables of the reference: options from the classes that validate them, commands from the command line.

Run it to bring the pages up to date: ``.venv/bin/python tests/docs/reference_tables.py``. A test fails when they are
not. A page marks its tables: ``<!-- options: provider.llama -->`` or ``<!-- command: run -->``, to ``<!-- end -->``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel

from promptmill._config.routes import RouteSpec
from promptmill._config.spec import BudgetSpec, JobSpec, StopWhenSpec, TemplateSpec
from promptmill._registry import Registry
from promptmill.cli.main import app
from promptmill.http import HttpSettings
from promptmill.options import Limits, Price, ProviderOptions

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
PAGES = (REFERENCE / "job-file.md", REFERENCE / "cli.md")

PARTS: dict[str, type[BaseModel]] = {
    "job": JobSpec,
    "template": TemplateSpec,
    "provider": ProviderOptions,
    "limits": Limits,
    "price": Price,
    "http": HttpSettings,
    "route": RouteSpec,
    "stop_when": StopWhenSpec,
    "budget": BudgetSpec,
}
_SECTIONS = {
    "Limits": "limits",
    "Price": "price",
    "HttpSettings": "http",
    "StopWhenSpec": "stop_when",
    "BudgetSpec": "budget",
    "MessageSpec": "messages",
}
_TYPES = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "object": "mapping",
    "null": "",
}
_TABLE = re.compile(r"(<!-- (options|command): ([\w. -]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def updated(text: str) -> str:
    """The page with every table as the code has it now."""
    makers = {"options": table, "command": command_table}
    return _TABLE.sub(lambda found: f"{found[1]}\n{makers[found[2]](found[3])}\n{found[5]}", text)


def shown(kind: str) -> set[str]:
    """The names of the tables the pages have, of ``options`` or ``command``."""
    return {found[3] for page in PAGES for found in _TABLE.finditer(page.read_text("utf-8")) if found[2] == kind}


def commands() -> dict[str, Any]:
    """Every command by its words, such as ``models fetch``."""
    return dict(_below(typer.main.get_command(app), ""))


def _below(group: Any, words: str) -> Iterator[tuple[str, Any]]:
    context = typer.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if hasattr(command, "list_commands"):
            yield from _below(command, f"{words}{name} ")
        else:
            yield f"{words}{name}", command


def command_table(words: str) -> str:
    """What a command does, and its arguments and options."""
    command = commands()[words]
    says = " ".join(command.help.partition("\b")[0].partition("Example")[0].split())
    rows = [_parameter(one) for one in command.params if not getattr(one, "hidden", False) and one.name != "help"]
    head = ["| argument or option | default | meaning |", "| --- | --- | --- |"]
    return "\n".join([says, "", *(head + rows if rows else [])]).rstrip() + "\n"


def _parameter(one: Any) -> str:
    is_option = one.param_type_name == "option"
    takes = "" if not is_option or one.is_flag else f" {one.metavar or (one.name or '').upper()}"
    names = (
        ", ".join(f"`{name}{takes}`" for name in one.opts)
        if is_option
        else f"`{(one.metavar or one.name).strip('[]').upper()}`"
    )
    given = one.default if not callable(one.default) else None
    default = "required" if one.required else "" if given in (None, False, ()) else f"`{given}`"
    repeated = " May be repeated." if getattr(one, "multiple", False) else ""
    return f"| {names} | {default} | {_cell(one.help or '')}{repeated} |"


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
    defined = schema.get("$defs", {})
    rows = {}
    for key, one in schema.get("properties", {}).items():
        cells = (f"`{key}`", _type(one, defined), _default(key, one, required), _cell(one.get("description", "")))
        rows[key] = f"| {' | '.join(cells)} |"
    return rows


def _type(schema: dict[str, Any], defined: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name in _SECTIONS:
            return f"mapping, see [{_SECTIONS[name]}](#{_SECTIONS[name]})"
        return "mapping of " + ", ".join(f"`{key}`" for key in defined[name]["properties"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if _is_duration(schema):
        return "duration"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(part for one in schema["anyOf"] if (part := _type(one, defined))))
    if schema.get("pattern", "").startswith("^(env:"):
        return "secret"
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'], defined)}"
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
    for page in PAGES:
        page.write_text(updated(page.read_text("utf-8")), "utf-8")
