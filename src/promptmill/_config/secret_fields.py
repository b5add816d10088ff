"""Where a job file may hold a secret that should have been a reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from promptmill._config.document import KeyPath
from promptmill._config.problems import types_in
from promptmill.options import SecretRef


def secret_paths(model: type[BaseModel], given: Mapping[str, Any], at: KeyPath) -> Iterator[KeyPath]:
    """The texts in ``given`` that stand where ``model`` expects a reference to a secret and are none.

    Where it expects one, the texts under keys it does not know count too: ``api_kye`` may hold the key.
    """
    fields = {field.alias or name: types_in(field.annotation) for name, field in model.model_fields.items()}
    keeps_secrets = any(SecretRef in types for types in fields.values())
    for key, value in given.items():
        types = fields.get(key)
        if SecretRef in types if types is not None else keeps_secrets and key != "use":
            yield from _literals(value, (*at, key))
        elif isinstance(value, Mapping):
            for inner in types or ():
                if issubclass(inner, BaseModel):
                    yield from secret_paths(inner, value, (*at, key))


def _literals(value: Any, path: KeyPath) -> Iterator[KeyPath]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _literals(inner, (*path, key))
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from _literals(inner, (*path, at))
    elif value is not None and not _is_reference(str(value)):
        yield path


def _is_reference(text: str) -> bool:
    try:
        SecretRef(text)
    except ValueError:
        return False
    return True
