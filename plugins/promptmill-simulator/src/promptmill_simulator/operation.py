"""What the three kinds of question have in common: read a body, answer it, spoil the answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import msgspec

from promptmill.clock import Clock
from promptmill_simulator.answers import AnswerSource
from promptmill_simulator.apierror import Reply, json_reply
from promptmill_simulator.ids import Ids
from promptmill_simulator.task import Digester, Task


class Answered(msgspec.Struct, frozen=True):
    """A finished reply body and the tokens it cost."""

    body: dict[str, Any]
    input_tokens: int
    output_tokens: int


class Tools(msgspec.Struct, frozen=True):
    """What operations need to do their work."""

    answers: AnswerSource
    digester: Digester
    ids: Ids
    clock: Clock


class Operation(ABC):
    """One endpoint of a model. Stateless apart from its tools."""

    name: ClassVar[str]
    path: ClassVar[str]

    def __init__(self, tools: Tools) -> None:
        self.tools = tools

    @abstractmethod
    def read(self, body: dict[str, Any]) -> Task:
        """Check a request body. Raises ApiError when it is wrong."""

    @abstractmethod
    async def answer(self, task: Task) -> Answered:
        """Do what is asked."""

    @abstractmethod
    def spoil(self, body: dict[str, Any], fault: str) -> dict[str, Any]:
        """Put a fault of the class ``CONTENT`` into a reply body and return it."""

    def reply(self, task: Task, body: dict[str, Any]) -> Reply:
        """The reply that carries ``body``."""
        del task
        return json_reply(body)

    def created(self) -> int:
        """Now, as replies stamp it: whole seconds since the epoch."""
        return int(self.tools.clock.wall())
