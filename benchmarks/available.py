"""What a case needs that may not be there, so that it is left out with a word and not silently."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import machine


@cache
def missing(need: str) -> str | None:
    """Why ``need`` is not there; None when it is. A package by its name, or ``wrk``, or ``backend NAME``."""
    if need == "wrk":
        return None if machine.program("wrk") else "wrk is not installed (apt-get install wrk)"
    if need.startswith("backend "):
        return _unknown_backend(need.removeprefix("backend "))
    return None if find_spec(need) else f"{need} is not installed (pip install {need})"


def why_not(needs: tuple[str, ...]) -> str | None:
    """The first thing that is missing."""
    return next((reason for need in needs if (reason := missing(need))), None)


def _unknown_backend(name: str) -> str | None:
    from pydantic import ValidationError

    from promptmill.http import HttpSettings

    try:
        HttpSettings.model_validate({"backend": name})
    except ValidationError:
        return f"this promptmill has no HTTP backend {name!r}"
    return None
