"""GET /v1/models and /v1/models/{model}, and the check that a model exists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from promptmill_simulator.apierror import ApiError, Reply, json_reply

DEFAULT_MODELS: Final = ("gpt-5-mini", "gpt-5-nano", "text-embedding-3-small")
_CREATED: Final = 1_700_000_000


class Models:
    """The models there are. Without a list every name is a model, and the listing shows a few."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)

    def check(self, model: str) -> None:
        """Raise ApiError (404, ``model_not_found``) when there is a list and ``model`` is not on it."""
        if self._names and model not in self._names:
            raise ApiError(
                404, f"The model `{model}` does not exist or you do not have access to it.", code="model_not_found"
            )

    def list(self) -> Reply:
        return json_reply({"object": "list", "data": [_model(name) for name in self._names or DEFAULT_MODELS]})

    def get(self, model: str) -> Reply:
        self.check(model)
        return json_reply(_model(model))


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": _CREATED, "owned_by": "promptmill-simulator"}
