"""Answers from a real provider behind the simulator: any that is installed and registered under a name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import entry_points
from typing import Any

import pluggy
from pydantic import ValidationError

from promptmill import hookspecs
from promptmill.errors import PluginError, ProviderError, UsageError
from promptmill.hookspecs import ENTRY_POINT_GROUP
from promptmill.interfaces import RealtimeProvider
from promptmill.models import Message, Request
from promptmill.options import BuildContext, Options
from promptmill_simulator.answers import Answer
from promptmill_simulator.apierror import ApiError
from promptmill_simulator.options import ProviderChoice
from promptmill_simulator.task import Task, count_tokens

_LONGEST_ANSWER = 600.0


class ProviderAnswers:
    """Passes chat questions on to a provider. Usage is the provider's where it knows it."""

    def __init__(self, provider: RealtimeProvider) -> None:
        self._provider = provider

    async def answer(self, task: Task, choice: int) -> Answer:
        messages = task.body.get("messages") or [{"role": "user", "content": task.prompt}]
        kept = ("temperature", "top_p", "stop", "seed", "response_format")
        params = {name: task.body[name] for name in kept if name in task.body}
        if task.max_output_tokens is not None:
            params["max_tokens"] = task.max_output_tokens
        request = Request(
            id=f"{task.name}-{choice}",
            messages=tuple(Message.from_dict(message) for message in messages),
            params=params,
        )
        try:
            response = await self._provider.complete(request, timeout=_LONGEST_ANSWER)
        except ProviderError as error:
            raise ApiError(error.http_status or 500, str(error), kind="server_error", code=error.code) from error
        text, usage = response.text or "", response.usage
        return Answer(
            text,
            "length" if response.finish_reason == "length" else "stop",
            task.input_tokens if usage.input_tokens is None else usage.input_tokens,
            count_tokens(text) if usage.output_tokens is None else usage.output_tokens,
        )


@asynccontextmanager
async def open_provider(choice: ProviderChoice) -> AsyncIterator[ProviderAnswers]:
    """Find, build and open the provider.

    Raises:
        PluginError: no such provider, or it cannot answer one request at a time.
        UsageError: its options are wrong.
    """
    options_class = find_provider(choice.use)
    try:
        options = options_class.model_validate(choice.options)
    except ValidationError as error:
        details = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise UsageError(f"the options of provider {choice.use!r} are wrong: {details}") from error
    provider = options.build(BuildContext(name=choice.use))
    if not isinstance(provider, RealtimeProvider):
        raise PluginError(f"provider {choice.use!r} does not answer one request at a time; choose one that does")
    async with provider:
        yield ProviderAnswers(provider)


def find_provider(name: str) -> type[Options[Any]]:
    """The options class of the provider registered as ``name``. Raises PluginError."""
    prefix = "provider."
    offered = {entry.name: entry for entry in entry_points(group=ENTRY_POINT_GROUP) if entry.name.startswith(prefix)}
    if prefix + name not in offered:
        known = ", ".join(sorted(entry.removeprefix(prefix) for entry in offered)) or "none"
        raise PluginError(f"no provider {name!r} is installed (known: {known})")
    manager = pluggy.PluginManager(ENTRY_POINT_GROUP)
    manager.add_hookspecs(hookspecs)
    manager.register(offered[prefix + name].load())
    found: dict[str, type[Options[Any]]] = {}
    manager.hook.register_provider(register=found.__setitem__)
    if name not in found:
        raise PluginError(f"the entry point {prefix + name!r} registers no provider of that name")
    return found[name]
