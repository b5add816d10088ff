"""Provider ``python``: a function of the user's answers the requests."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import Field

from promptmill.errors import PluginError
from promptmill.hookspecs import hookimpl
from promptmill.models import Request, Response
from promptmill.options import BuildContext, ProviderOptions, Register
from promptmill_local.answers import Answer, as_response
from promptmill_local.threads import ThreadedProvider

Function: TypeAlias = Callable[[Request], Answer] | Callable[[Request], Awaitable[Answer]]
"""Takes a request and returns a response or its text, at once or as a coroutine."""


class FunctionProvider(ThreadedProvider):
    """Answers with ``function(request)``.

    A plain function runs in worker threads, at most ``slots`` at once; a coroutine function is awaited, and
    ``concurrency`` is only a proposal to the engine (None: the engine finds out).
    """

    def __init__(
        self, function: Function, *, slots: int = 1, concurrency: int | None = None, model: str | None = None
    ) -> None:
        super().__init__(slots=slots)
        self.model = model
        self._function: Callable[[Request], Any] = function
        self._awaited = _returns_coroutine(function)
        if self._awaited:
            self.concurrency = concurrency

    async def aopen(self) -> None:
        if not self._awaited:
            await super().aopen()

    async def aclose(self) -> None:
        if not self._awaited:
            await super().aclose()

    def generate(self, request: Request) -> Answer:
        answer: Answer = self._function(request)
        return answer

    async def complete(self, request: Request, *, timeout: float) -> Response:
        if self._awaited:
            return as_response(await self._function(request), self.model)
        return await super().complete(request, timeout=timeout)


def _returns_coroutine(function: Function) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def load_function(target: str, base_dir: Path) -> Function:
    """Import the function named by ``module:function``. Modules in ``base_dir`` are found too, after all others.

    Raises:
        PluginError: there is no such module or function, or importing it failed.
    """
    module_name, _, function_name = target.partition(":")
    directory = str(base_dir.resolve())
    if directory not in sys.path:
        # At the end: a file next to the job must not hide an installed module. It stays, for imports made later.
        sys.path.append(directory)
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        raise PluginError(
            f"module {module_name!r} of target {target!r} cannot be imported: {type(error).__name__}: {error}",
            code="E0411",
            hint=f"install it, or put its file into {directory!r}",
        ) from error
    for part in function_name.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise PluginError(
            f"module {module_name!r} has no function {function_name!r}",
            code="E0411",
            hint="write the target as module:function",
        )
    function: Function = found
    return function


def _not_loaded(request: Request) -> Answer:
    raise RuntimeError(f"a provider built for planning was asked to answer {request.id!r}")


class PythonOptions(ProviderOptions):
    """A function in this process answers. It is code, so the user must allow it: ``--allow-code``."""

    how_only = ProviderOptions.how_only | {"slots"}

    target: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$", description="The function, as module:function.")
    slots: int = Field(1, ge=1, description="Threads that may be in a plain function at once.")

    def build(self, context: BuildContext) -> FunctionProvider:
        if context.planning:
            return FunctionProvider(_not_loaded, slots=self.slots, model=self.model)
        if not context.allow_code:
            raise PluginError(
                f"provider {context.name!r} runs code that the job file names: {self.target!r}",
                code="E0410",
                hint="if you trust this job file, run it with --allow-code",
            )
        return FunctionProvider(load_function(self.target, context.base_dir), slots=self.slots, model=self.model)


@hookimpl
def register_provider(register: Register) -> None:
    register("python", PythonOptions)
