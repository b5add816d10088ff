"""What a local model may return, and the response made of it."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from promptmill.models import Response

Answer: TypeAlias = Response | str
"""What a model may return: a whole response, or only its text."""


def as_response(answer: object, model: str | None) -> Response:
    """Return the response for ``answer``; ``model`` stands in where the answer names none.

    Raises:
        TypeError: it is neither a Response nor a text; a bug of the model's code.
    """
    if isinstance(answer, str):
        return Response(text=answer, model=model)
    if not isinstance(answer, Response):
        raise TypeError(f"a model returns a Response or a str, got {type(answer).__name__}")
    return answer if answer.model is not None else msgspec.structs.replace(answer, model=model)
