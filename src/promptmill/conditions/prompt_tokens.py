"""Condition ``prompt_tokens``: how long the prompt is, in estimated tokens."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from promptmill.conditions._comparing import Bounds, ComparingOptions
from promptmill.hookspecs import hookimpl
from promptmill.interfaces import BYTES_PER_TOKEN
from promptmill.models import Request
from promptmill.options import BuildContext

if TYPE_CHECKING:
    from promptmill.options import Register


class PromptTokens:
    """Compares an estimate made from the UTF-8 bytes of text; no tokenizer is asked."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds

    def matches(self, request: Request) -> bool:
        return self._bounds.hold(math.ceil(request.prompt_bytes / BYTES_PER_TOKEN))


class PromptTokensOptions(ComparingOptions):
    """``prompt_tokens: {gt: 4000}``"""

    def build(self, context: BuildContext) -> PromptTokens:  # noqa: ARG002 - the signature of every build
        return PromptTokens(self.bounds)


@hookimpl
def register_condition(register: Register) -> None:
    register("prompt_tokens", PromptTokensOptions)
