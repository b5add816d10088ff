"""The conditions that compare a number: prompt_chars and prompt_tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from pydantic import ValidationError

from promptmill.conditions.prompt_chars import PromptCharsOptions
from promptmill.conditions.prompt_tokens import PromptTokensOptions
from promptmill.models import Message, Request
from promptmill.options import BuildContext
from promptmill.testing import ConditionContract, request


class TestPromptChars(ConditionContract):
    options_class = PromptCharsOptions

    def settings(self) -> Mapping[str, Any]:
        return {"lt": 5}

    def matching(self) -> Sequence[Request]:
        return [request("four"), request(""), request("äöüß"), Request(id="1")]

    def others(self) -> Sequence[Request]:
        return [request("fives"), request("", messages=(Message("system", "abc"), Message("user", "de")))]


class TestPromptTokens(ConditionContract):
    options_class = PromptTokensOptions

    def settings(self) -> Mapping[str, Any]:
        return {"ge": 3}

    def matching(self) -> Sequence[Request]:
        return [request("8 bytes!"), request("日本語")]

    def others(self) -> Sequence[Request]:
        return [request("7 bytes"), request("")]


@pytest.mark.parametrize(
    ("settings", "lengths"),
    [
        ({"lt": 3}, {0, 1, 2}),
        ({"le": 3}, {0, 1, 2, 3}),
        ({"gt": 3}, {4, 5}),
        ({"ge": 3}, {3, 4, 5}),
        ({"eq": 3}, {3}),
        ({"ge": 1, "lt": 3}, {1, 2}),
        ({"gt": 3, "lt": 3}, set()),
    ],
)
def test_comparisons(settings: dict[str, Any], lengths: set[int]) -> None:
    condition = PromptCharsOptions.model_validate(settings).build(BuildContext(name="when"))
    assert {length for length in range(6) if condition.matches(request("x" * length))} == lengths


@pytest.mark.parametrize("settings", [{}, {"lt": None}, {"lt": "many"}, {"below": 3}])
def test_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PromptCharsOptions.model_validate(settings)


def test_bare_number_means_equal() -> None:
    assert PromptCharsOptions.shorthand == "eq"
