"""Which handler a method and a path lead to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias

import msgspec

from promptmill_simulator.apierror import ApiError, Reply
from promptmill_simulator.call import Call

Run: TypeAlias = Callable[[Call, str], Awaitable[Reply]]
"""Handles a call; the text is what stands for ``*`` in the path."""


class Route(msgspec.Struct, frozen=True):
    """``path`` may have one ``*`` part. ``name`` is for the ledger and for fault rules, such as ``files.content``."""

    method: str
    path: str
    name: str
    run: Run


class Handler(msgspec.Struct, frozen=True):
    """A route that was found, with its ``*`` filled in."""

    name: str
    target: str
    route_run: Run

    async def run(self, call: Call) -> Reply:
        return await self.route_run(call, self.target)


class Router:
    """Looks routes up by the shape of their path."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes: Mapping[tuple[str, str], Route] = {(route.method, route.path): route for route in routes}
        self._paths = frozenset(route.path for route in routes)

    def find(self, call: Call) -> Handler:
        """The handler of ``call``; raises ApiError (404, 405) when there is none."""
        for path, target in _shapes(call.path):
            route = self._routes.get((call.method, path))
            if route is not None:
                return Handler(route.name, target, route.run)
            if path in self._paths:
                raise ApiError(405, f"Not allowed to {call.method} on {call.path}.")
        raise ApiError(404, f"Invalid URL ({call.method} {call.path})")


def _shapes(path: str) -> list[tuple[str, str]]:
    """The path as it is, and with its third part (``/v1/files/{id}...``) replaced by ``*``."""
    parts = path.rstrip("/").split("/")
    shapes = [(path.rstrip("/"), "")]
    if len(parts) >= 4:
        shapes.append(("/".join([*parts[:3], "*", *parts[4:]]), parts[3]))
    return shapes
