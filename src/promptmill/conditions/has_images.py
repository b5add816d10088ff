"""Condition ``has_images``: whether a message holds an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from promptmill.hookspecs import hookimpl
from promptmill.models import Request
from promptmill.options import BuildContext, ConditionOptions

if TYPE_CHECKING:
    from promptmill.options import Register


class HasImages:
    """Holds for requests with an image (``wanted``) or without any."""

    def __init__(self, *, wanted: bool = True) -> None:
        self._wanted = wanted

    def matches(self, request: Request) -> bool:
        return request.has_images is self._wanted


class HasImagesOptions(ConditionOptions):
    """``has_images: true``"""

    shorthand = "value"

    value: bool = Field(True, description="true: with an image; false: without any.")

    def build(self, context: BuildContext) -> HasImages:  # noqa: ARG002 - the signature of every build
        return HasImages(wanted=self.value)


@hookimpl
def register_condition(register: Register) -> None:
    register("has_images", HasImagesOptions)
