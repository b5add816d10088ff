"""Condition ``priority``: how urgent the request is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pydantic import Field

from promptmill.hookspecs import hookimpl
from promptmill.models import Priority, Request
from promptmill.options import BuildContext, ConditionOptions

if TYPE_CHECKING:
    from promptmill.options import Register


class HasPriority:
    """Holds when the request has one of the priorities."""

    def __init__(self, priorities: Iterable[Priority]) -> None:
        self._priorities = frozenset(priorities)

    def matches(self, request: Request) -> bool:
        return request.priority in self._priorities


class PriorityOptions(ConditionOptions):
    """``priority: urgent`` or ``priority: [urgent, normal]``"""

    shorthand = "any_of"

    any_of: Priority | list[Priority] = Field(description="urgent, normal, bulk, or a list of these.")

    def build(self, context: BuildContext) -> HasPriority:  # noqa: ARG002 - the signature of every build
        return HasPriority(self.any_of if isinstance(self.any_of, list) else [self.any_of])


@hookimpl
def register_condition(register: Register) -> None:
    register("priority", PriorityOptions)
