"""Conditions that compare a number: ``{lt: 100}``, ``{ge: 10, le: 20}``."""

from __future__ import annotations

from typing import Self

import msgspec
from pydantic import Field, model_validator

from promptmill.options import ConditionOptions


class Bounds(msgspec.Struct, frozen=True):
    """What a number must be; all that are given must hold."""

    lt: float | None = None
    le: float | None = None
    gt: float | None = None
    ge: float | None = None
    eq: float | None = None

    def hold(self, number: float) -> bool:
        """Whether ``number`` keeps to them."""
        return (
            (self.lt is None or number < self.lt)
            and (self.le is None or number <= self.le)
            and (self.gt is None or number > self.gt)
            and (self.ge is None or number >= self.ge)
            and (self.eq is None or number == self.eq)
        )


class ComparingOptions(ConditionOptions):
    """A bare number is short for ``eq``."""

    shorthand = "eq"

    lt: float | None = Field(None, description="Less than.")
    le: float | None = Field(None, description="Less than or equal to.")
    gt: float | None = Field(None, description="Greater than.")
    ge: float | None = Field(None, description="Greater than or equal to.")
    eq: float | None = Field(None, description="Equal to.")

    @model_validator(mode="after")
    def _at_least_one(self) -> Self:
        if self.bounds == Bounds():
            raise ValueError("compare with at least one of lt, le, gt, ge, eq")
        return self

    @property
    def bounds(self) -> Bounds:
        return Bounds(lt=self.lt, le=self.le, gt=self.gt, ge=self.ge, eq=self.eq)
