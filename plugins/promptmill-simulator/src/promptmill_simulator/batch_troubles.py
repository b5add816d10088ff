"""What goes wrong with the lines of a batch."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Annotated, Literal, Self, TypeAlias

import msgspec
from pydantic import BaseModel, ConfigDict, Field, model_validator

Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]
ErrorStatus: TypeAlias = Annotated[int, Field(ge=300, le=599)]


class LineTroubles(BaseModel):
    """Shares are of all lines, exact, and drawn by the seed. ``errors`` and ``missing`` are different lines."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    errors: Share = Field(0.0, description="Share of lines that fail and are not billed.")
    status: tuple[ErrorStatus, ...] = Field((500,), min_length=1, description="Their statuses, in turn.")
    error_form: Literal["response", "null", "absent"] = Field(
        "response", description="How lines say that they failed: response, or error with response null or absent."
    )
    errors_in: Literal["error-file", "output-file"] = Field("error-file", description="The file of lines that failed.")
    missing: Share = Field(0.0, description="Share of lines that are answered and billed, but in neither file.")
    duplicate: Share = Field(0.0, description="Share of lines that are written twice.")
    unknown: int = Field(0, ge=0, description="Lines in the output file with custom_ids that nobody sent.")
    text_body: Share = Field(0.0, description="Share of lines whose body is a text with JSON in it.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.errors + self.missing > 1:
            raise ValueError(f"errors={self.errors} and missing={self.missing} are more than all lines")
        return self


class Fate(msgspec.Struct, frozen=True):
    """What is to happen to one line. ``status`` None: nothing is forced on it."""

    status: int | None = None
    missing: bool = False
    copies: int = 1
    text_body: bool = False


class Fates:
    """Deals the troubles out to the lines of one batch."""

    def __init__(self, troubles: LineTroubles, total: int, seed: int) -> None:
        order = list(range(total))
        random.Random(seed).shuffle(order)  # noqa: S311
        failing, missing = round(total * troubles.errors), round(total * troubles.missing)
        statuses = troubles.status
        self._statuses: Mapping[int, int] = {
            index: statuses[turn % len(statuses)] for turn, index in enumerate(order[:failing])
        }
        self._missing = frozenset(order[failing : failing + missing])
        # From the other end, so that lines are doubled that are there to be doubled.
        self._doubled = frozenset(order[total - round(total * troubles.duplicate) :])
        self._text = frozenset(order[total - round(total * troubles.text_body) :])

    def of(self, index: int) -> Fate:
        """The fate of the line that is worked on as number ``index``, from 0."""
        return Fate(
            self._statuses.get(index),
            index in self._missing,
            2 if index in self._doubled else 1,
            index in self._text,
        )
