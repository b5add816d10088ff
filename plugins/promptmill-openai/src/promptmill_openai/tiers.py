"""What ``openai-chat`` and ``openai-responses`` share: one POST a request, in the service tier that the job names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, TypeAlias

from pydantic import Field, model_validator

from promptmill.interfaces import RealtimeProvider
from promptmill.jsontext import JSON
from promptmill.models import Request, Response
from promptmill_openai.endpoint import Endpoint
from promptmill_openai.reply import tier_of
from promptmill_openai.settings import OpenAIOptions

FLEX_TIMEOUT_S: Final = 900.0
"""Source: the official example for flex."""

Bodies: TypeAlias = Callable[[Request, str | None, Mapping[str, JSON], Mapping[str, JSON]], dict[str, JSON]]
"""Makes a body of a request, the model, what the provider adds unless the request says otherwise, and what wins."""


class TieredProvider(RealtimeProvider):
    """Answers with one POST each; the subclass says to which endpoint, with which body."""

    def __init__(self, endpoint: Endpoint, options: TieredOptions) -> None:
        service_tier = options.service_tier
        self.model = options.model
        self.price_vendor = endpoint.price_vendor(service_tier)
        self.queues = endpoint.is_own
        self.admission = "max" if endpoint.counts_the_higher else "sum"
        self.tier = "flex" if service_tier == "flex" else "realtime"
        self._endpoint = endpoint
        self._defaults: dict[str, JSON] = {} if service_tier is None else {"service_tier": service_tier}
        self._extra_body = options.extra_body

    async def aopen(self) -> None:
        await self._endpoint.aopen()

    async def aclose(self) -> None:
        await self._endpoint.aclose()

    async def _ask(self, request: Request, body_of: Bodies, read: Callable[..., Response], timeout: float) -> Response:
        """The answer to what ``body_of`` makes of the request. ``read`` is told the model and the tier asked for."""
        model = request.model or self.model
        body = body_of(request, model, self._defaults, self._extra_body)
        tier = tier_of(body, asked="realtime")
        reader = partial(read, model=model, asked=tier)
        return await self._endpoint.ask(body, timeout=timeout, read=reader, tier=tier)


class TieredOptions(OpenAIOptions):
    """Options of both."""

    how_only = OpenAIOptions.how_only | {"service_tier"}

    service_tier: str | None = Field(
        None, description="auto, default, flex (timeout: 900 s), priority, ...; a request's own wins."
    )

    @model_validator(mode="before")
    @classmethod
    def _flex_takes_its_time(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("service_tier") == "flex":
            return {"timeout": FLEX_TIMEOUT_S, **given}
        return given
