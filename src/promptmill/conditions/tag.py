"""Condition ``tag``: whether the request carries a tag."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pydantic import Field

from promptmill.hookspecs import hookimpl
from promptmill.models import Request
from promptmill.options import BuildContext, ConditionOptions

if TYPE_CHECKING:
    from promptmill.options import Register


class HasTag:
    """Holds when the request has at least one of the tags."""

    def __init__(self, tags: Iterable[str]) -> None:
        self._tags = frozenset(tags)

    def matches(self, request: Request) -> bool:
        return not self._tags.isdisjoint(request.tags)


class TagOptions(ConditionOptions):
    """``tag: private`` or ``tag: [private, draft]``"""

    shorthand = "any_of"

    any_of: str | list[str] = Field(description="A tag, or a list of tags of which one is enough.")

    def build(self, context: BuildContext) -> HasTag:  # noqa: ARG002 - the signature of every build
        return HasTag(self.any_of if isinstance(self.any_of, list) else [self.any_of])


@hookimpl
def register_condition(register: Register) -> None:
    register("tag", TagOptions)
