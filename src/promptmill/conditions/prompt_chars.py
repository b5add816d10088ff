"""Condition ``prompt_chars``: how long the prompt is, in characters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from promptmill.conditions._comparing import Bounds, ComparingOptions
from promptmill.hookspecs import hookimpl
from promptmill.models import Request
from promptmill.options import BuildContext

if TYPE_CHECKING:
    from promptmill.options import Register


class PromptChars:
    """Compares the characters of text over all messages."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds

    def matches(self, request: Request) -> bool:
        return self._bounds.hold(request.prompt_chars)


class PromptCharsOptions(ComparingOptions):
    """``prompt_chars: {lt: 100}``"""

    def build(self, context: BuildContext) -> PromptChars:  # noqa: ARG002 - the signature of every build
        return PromptChars(self.bounds)


@hookimpl
def register_condition(register: Register) -> None:
    register("prompt_chars", PromptCharsOptions)
