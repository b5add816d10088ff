"""Where a job file may hold a secret that should have been a reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from promptmill._config.document import KeyPath
from promptmill._config.problems import types_in
from promptmill.options import SecretRef
from promptmill.secrets import names_a_secret


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


def written_out(model: type[BaseModel], given: Mapping[str, Any], at: KeyPath) -> Iterator[KeyPath]:
    """The texts in free-form parts of ``given``, such as headers, whose keys name secrets and that are no references.

    Fields that ``model`` declares are its own business.
    """
    fields = {field.alias or name: types_in(field.annotation) for name, field in model.model_fields.items()}
    for key, value in given.items():
        if key != "pool" and not any(issubclass(one, BaseModel) for one in fields.get(key, ())):
            yield from named_literals(value, (*at, key))


def named_literals(value: Any, path: KeyPath, *, references: bool = True) -> Iterator[KeyPath]:
    """The texts inside ``value`` whose keys name secrets; without those that are ``references``, where these may be."""
    pairs = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        if isinstance(inner, str):
            if isinstance(key, str) and names_a_secret(key) and not (references and _is_reference(inner)):
                yield (*path, key)
        else:
            yield from named_literals(inner, (*path, key), references=references)


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
