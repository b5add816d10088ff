"""What pydantic found wrong, in the words of a job file and with its place in it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from promptmill._config.document import Document, KeyPath
from promptmill.errors import Problem

_PLAIN_WORDS: Final = {
    "dict_type": "should be a mapping of keys to values",
    "model_type": "should be a mapping of keys to values",
    "list_type": "should be a list",
    "tuple_type": "should be a list",
    "string_type": "should be a text",
    "int_type": "should be a whole number",
    "int_parsing": "should be a whole number",
    "int_from_float": "should be a whole number",
    "float_type": "should be a number",
    "float_parsing": "should be a number",
    "finite_number": "should be a finite number",
    "bool_type": "should be true or false",
    "bool_parsing": "should be true or false",
}
"""Types of pydantic errors whose own messages speak of Python's types."""

_PYDANTIC_WORDS: Final = re.compile(r"^(?:Value error, |(?:Input|String|List|Dictionary) (?=should))| after validation")


def problems_of(
    error: ValidationError,
    document: Document,
    at: KeyPath,
    model: type[BaseModel],
    also_known: Iterable[str] = (),
) -> list[Problem]:
    """The problems of ``error``, which came of validating the part of ``document`` at ``at`` as ``model``.

    ``also_known`` are keys that are allowed there beside the fields of the model.
    """
    found: dict[tuple[KeyPath, str, str], Problem] = {}
    for detail in error.errors(include_url=False, include_context=True, include_input=False):
        problem = _problem(detail, document, at, model, also_known)
        missing = str(detail["loc"][-1]) if detail["type"] == "missing" else ""
        found.setdefault((_real_path(document, at, detail["loc"]), problem.code, missing), problem)
    return list(found.values())


def unknown_key(document: Document, path: KeyPath, known: Iterable[str]) -> Problem:
    """The problem of a key nobody knows, with the nearest known one."""
    name = str(path[-1])
    names = sorted(known)
    close = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(names)}"
    return Problem("E0203", f"unknown key {name!r}", document.locate(path, key=True), hint)


def _problem(
    detail: ErrorDetails, document: Document, at: KeyPath, model: type[BaseModel], also_known: Iterable[str]
) -> Problem:
    path = _real_path(document, at, detail["loc"])
    kind = detail["type"]
    if kind == "extra_forbidden":
        known = _fields(model, detail["loc"][:-1])
        return unknown_key(document, path, [*known, *also_known] if len(detail["loc"]) == 1 else known)
    if kind == "missing":
        name = detail["loc"][-1]
        return Problem("E0204", f"the key {str(name)!r} is missing", document.locate(path), f"add `{name}: ...`")
    message = _PLAIN_WORDS.get(kind) or _PYDANTIC_WORDS.sub("", detail["msg"])
    name = ".".join(str(part) for part in path)
    return Problem("E0205", f"{name}: {message[:1].lower()}{message[1:]}", document.locate(path))


def _real_path(document: Document, at: KeyPath, loc: tuple[int | str, ...]) -> KeyPath:
    """``loc`` without the parts pydantic adds for union members and validators."""
    path = at
    value = _value_at(document.data, at)
    for part in loc:
        if _has(value, part):
            value = value[part]
            path = (*path, part)
    return path


def _value_at(data: Any, path: KeyPath) -> Any:
    for part in path:
        if not _has(data, part):
            return None
        data = data[part]
    return data


def _has(value: Any, part: int | str) -> bool:
    if isinstance(value, Mapping):
        return part in value
    return isinstance(value, Sequence) and not isinstance(value, str) and part in range(len(value))


def _fields(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """The keys known at ``loc`` inside ``model``."""
    current: type[BaseModel] = model
    for part in loc:
        field = current.model_fields.get(str(part))
        inner = [one for one in types_in(field.annotation) if issubclass(one, BaseModel)] if field else []
        if inner:
            current = inner[0]
    return [field.alias or name for name, field in current.model_fields.items()]


def types_in(annotation: Any) -> list[type]:
    """The classes an annotation is made of: ``dict[str, Path] | None`` has str, Path and NoneType."""
    if arguments := get_args(annotation):
        return [one for argument in arguments for one in types_in(argument)]
    return [annotation] if isinstance(annotation, type) else []
