"""First route whose condition holds, and its fallbacks."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from promptmill.errors import JobError
from promptmill.interfaces import Condition
from promptmill.models import Request


class AllOf(msgspec.Struct, frozen=True):
    """Holds when every condition holds; with none it always does."""

    conditions: tuple[Condition, ...]

    def matches(self, request: Request) -> bool:
        return all(condition.matches(request) for condition in self.conditions)


class AnyOf(msgspec.Struct, frozen=True):
    """Holds when one of the conditions holds."""

    conditions: tuple[Condition, ...]

    def matches(self, request: Request) -> bool:
        return any(condition.matches(request) for condition in self.conditions)


class Not(msgspec.Struct, frozen=True):
    """Holds when the condition does not."""

    condition: Condition

    def matches(self, request: Request) -> bool:
        return not self.condition.matches(request)


class Route(msgspec.Struct, frozen=True):
    """Requests that match ``when`` (None: all) go to the provider named ``to``, then to each of ``fallback``.

    They may cost ``budget_usd`` in all, and should be done ``deadline_s`` seconds after the start of the run.
    """

    to: str
    when: Condition | None = None
    fallback: tuple[str, ...] = ()
    budget_usd: float | None = None
    deadline_s: float | None = None

    @property
    def chain(self) -> tuple[str, ...]:
        return (self.to, *self.fallback)


class Router:
    """Picks the chain of providers for a request.

    Raises:
        JobError: there is no route, the last one does not match everything, or one names an unknown provider.
    """

    def __init__(self, routes: Sequence[Route], providers: Sequence[str]) -> None:
        if not routes:
            raise JobError("there is no route", code="E0230", hint="give a last route without `when`")
        if routes[-1].when is not None:
            raise JobError(
                "the last route does not match everything, so some requests would have nowhere to go",
                code="E0230",
                hint=f"add a last route without `when`, such as `- {{to: {routes[-1].to}}}`",
            )
        for route in routes:
            for name in route.chain:
                if name not in providers:
                    raise JobError(
                        f"a route names the provider {name!r}, which is not defined",
                        code="E0231",
                        hint=f"defined: {', '.join(providers)}",
                    )
        self.routes = tuple(routes)
        self._choices = [(route.when, number) for number, route in enumerate(routes)]
        self.chains = [route.chain for route in routes]
        """The names of the providers to try, in order, by the position of the route."""

    def number(self, request: Request) -> int:
        """The position of the route for ``request`` among :attr:`routes`."""
        for when, number in self._choices:
            if when is None or when.matches(request):
                return number
        raise AssertionError("the last route matches everything")

    def chain(self, request: Request) -> tuple[str, ...]:
        """The names of the providers to try, in order."""
        return self.chains[self.number(request)]
