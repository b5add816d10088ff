"""The conditions that look something up: priority, tag, model and has_images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from pydantic import ValidationError

from promptmill.conditions.has_images import HasImagesOptions
from promptmill.conditions.model import ModelOptions
from promptmill.conditions.priority import PriorityOptions
from promptmill.conditions.tag import TagOptions
from promptmill.models import Message, Request
from promptmill.options import ConditionOptions
from promptmill.testing import ConditionContract, request

PICTURE = request(messages=(Message("user", [{"type": "image_url", "image_url": {"url": "data:"}}]),))


class TestOnePriority(ConditionContract):
    options_class = PriorityOptions

    def settings(self) -> Mapping[str, Any]:
        return {"any_of": "urgent"}

    def matching(self) -> Sequence[Request]:
        return [request(priority="urgent")]

    def others(self) -> Sequence[Request]:
        return [request(), request(priority="bulk")]


class TestPriorities(TestOnePriority):
    def settings(self) -> Mapping[str, Any]:
        return {"any_of": ["urgent", "normal"]}

    def matching(self) -> Sequence[Request]:
        return [request(priority="urgent"), request()]

    def others(self) -> Sequence[Request]:
        return [request(priority="bulk")]


class TestTag(ConditionContract):
    options_class = TagOptions

    def settings(self) -> Mapping[str, Any]:
        return {"any_of": "a"}

    def matching(self) -> Sequence[Request]:
        return [request(tags=("a",)), request(tags=("b", "a"))]

    def others(self) -> Sequence[Request]:
        return [request(), request(tags=("b", "A", "aa"))]


class TestTags(TestTag):
    def settings(self) -> Mapping[str, Any]:
        return {"any_of": ["a", "c"]}

    def matching(self) -> Sequence[Request]:
        return [request(tags=("a",)), request(tags=("b", "c"))]


class TestModel(ConditionContract):
    options_class = ModelOptions

    def settings(self) -> Mapping[str, Any]:
        return {"any_of": ["tiny", "*-mini"]}

    def matching(self) -> Sequence[Request]:
        return [request(params={"model": "tiny"}), request(params={"model": "x/5-mini"})]

    def others(self) -> Sequence[Request]:
        return [request(), request(params={"model": "TINY"}), request(params={"model": "mini"})]


class TestOneModel(TestModel):
    def settings(self) -> Mapping[str, Any]:
        return {"any_of": "[tx]*[iy]*"}


class TestHasImages(ConditionContract):
    options_class = HasImagesOptions

    def matching(self) -> Sequence[Request]:
        return [PICTURE]

    def others(self) -> Sequence[Request]:
        return [request(), Request(id="1")]


class TestHasNoImages(TestHasImages):
    def settings(self) -> Mapping[str, Any]:
        return {"value": False}

    def matching(self) -> Sequence[Request]:
        return [request(), Request(id="1")]

    def others(self) -> Sequence[Request]:
        return [PICTURE]


@pytest.mark.parametrize(
    ("options", "value"),
    [(PriorityOptions, "asap"), (PriorityOptions, ["urgent", "asap"]), (TagOptions, 7), (ModelOptions, None)],
)
def test_refused(options: type[ConditionOptions], value: object) -> None:
    assert options.shorthand == "any_of"
    with pytest.raises(ValidationError):
        options.model_validate({"any_of": value})
