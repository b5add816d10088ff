"""Prompts of the Python API as requests: texts, mappings and requests, from data frames, sync and async iterables."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import anyio
import msgspec

from promptmill._engine_spec import Entry
from promptmill._frames import rows_of_frame
from promptmill.errors import InputError
from promptmill.models import BadRow, Message, Request, Row

if TYPE_CHECKING:
    from promptmill._template import InputTemplate

GROUP: Final = 64
"""Prompts taken from a plain iterable at once, before other tasks get their turn."""


async def entries_of(prompts: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[Sequence[Entry]]:
    """Yield groups of requests with their positions.

    Raises:
        InputError: one of the prompts is nothing that can be sent.
    """
    from promptmill._template import InputTemplate  # imports Jinja2, which who imports promptmill may never need

    template = InputTemplate()
    index = 0
    if isinstance(prompts, AsyncIterable):
        async for prompt in prompts:
            yield [request_of(prompt, index, template)]
            index += 1
        return
    if isinstance(prompts, str | Mapping):
        raise InputError("prompts must be a list or an iterable of prompts, not one prompt", code="E0330")
    waiting = iter(prompts if (rows := rows_of_frame(prompts)) is None else rows)
    while group := list(islice(waiting, GROUP)):
        yield [request_of(prompt, index + at, template) for at, prompt in enumerate(group)]
        index += len(group)
        await anyio.lowlevel.checkpoint()


def request_of(prompt: object, index: int, template: InputTemplate) -> Request:
    """One prompt as a request at position ``index``. Its id is its own, else its 1-based position.

    Raises:
        InputError: it is neither a text, nor a mapping with a prompt or messages, nor a request.
    """
    if isinstance(prompt, Request):
        return prompt if prompt.index == index else msgspec.structs.replace(prompt, index=index)
    if isinstance(prompt, str):
        return Request(id=str(index + 1), index=index, messages=(Message("user", str(prompt)),))
    if isinstance(prompt, Mapping):
        made = template.request_of(Row(prompt), index)
        if isinstance(made, BadRow):
            raise InputError(f"prompt {index + 1} cannot be sent: {made.message}", code="E0330")
        return made
    raise InputError(
        f"prompt {index + 1} is a {type(prompt).__name__}; give a text, a mapping or a Request", code="E0330"
    )
