"""Condition ``model``: which model the request asks for itself."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from pydantic import Field

from promptmill.hookspecs import hookimpl
from promptmill.models import Request
from promptmill.options import BuildContext, ConditionOptions

if TYPE_CHECKING:
    from promptmill.options import Register


class AsksForModel:
    """Holds when ``params.model`` of the request fits one of the patterns (``*``, ``?``, ``[...]``; case counts).

    A request that names no model fits none.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = tuple(patterns)

    def matches(self, request: Request) -> bool:
        model = request.model
        return model is not None and any(fnmatchcase(model, pattern) for pattern in self._patterns)


class ModelOptions(ConditionOptions):
    """``model: "*-mini"`` or ``model: [tiny, "small-*"]``"""

    shorthand = "any_of"

    any_of: str | list[str] = Field(description="A pattern such as `*-mini`, or a list of which one is enough.")

    def build(self, context: BuildContext) -> AsksForModel:  # noqa: ARG002 - the signature of every build
        return AsksForModel(self.any_of if isinstance(self.any_of, list) else [self.any_of])


@hookimpl
def register_condition(register: Register) -> None:
    register("model", ModelOptions)
