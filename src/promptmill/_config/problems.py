"""What pydantic found wrong, in the words of a job file and with its place in it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from promptmill._config.document import Document, KeyPath
from promptmill.errors import Problem


def problems_of(error: ValidationError, document: Document, at: KeyPath, model: type[BaseModel]) -> list[Problem]:
    """The problems of ``error``, which came of validating the part of ``document`` at ``at`` as ``model``."""
    found: dict[tuple[KeyPath, str], Problem] = {}
    for detail in error.errors(include_url=False, include_context=True, include_input=False):
        problem = _problem(detail, document, at, model)
        found.setdefault((_real_path(document, at, detail["loc"]), problem.code), problem)
    return list(found.values())


def unknown_key(document: Document, path: KeyPath, known: Iterable[str]) -> Problem:
    """The problem of a key nobody knows, with the nearest known one."""
    name = str(path[-1])
    names = sorted(known)
    close = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(names)}"
    return Problem("E0203", f"unknown key {name!r}", document.locate(path, key=True), hint)


def _problem(detail: ErrorDetails, document: Document, at: KeyPath, model: type[BaseModel]) -> Problem:
    path = _real_path(document, at, detail["loc"])
    kind = detail["type"]
    if kind == "extra_forbidden":
        return unknown_key(document, path, _fields(model, detail["loc"][:-1]))
    if kind == "missing":
        name = detail["loc"][-1]
        return Problem("E0204", f"the key {str(name)!r} is missing", document.locate(path), f"add `{name}: ...`")
    message = detail["msg"].removeprefix("Value error, ")
    name = ".".join(str(part) for part in path)
    return Problem("E0205", f"{name}: {message[:1].lower()}{message[1:]}", document.locate(path))


def _real_path(document: Document, at: KeyPath, loc: tuple[int | str, ...]) -> KeyPath:
    """``loc`` without the parts pydantic adds for union members and validators."""
    path = at
    value = _value_at(document.data, at)
    for part in loc:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            continue
        path = (*path, part)
    return path


def _value_at(data: Any, path: KeyPath) -> Any:
    for part in path:
        data = data[part]
    return data


def _fields(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """The keys known at ``loc`` inside ``model``."""
    current: type[BaseModel] = model
    for part in loc:
        field = current.model_fields.get(str(part))
        inner = [one for one in _types(field.annotation) if issubclass(one, BaseModel)] if field else []
        if inner:
            current = inner[0]
    return [field.alias or name for name, field in current.model_fields.items()]


def _types(annotation: Any) -> list[type]:
    if isinstance(annotation, type):
        return [annotation]
    return [one for argument in get_args(annotation) for one in _types(argument)]
