"""The routes of a job file: conditions by name, combined with all, ``any`` and ``not``."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from promptmill._config.document import Document, KeyPath
from promptmill._config.problems import problems_of
from promptmill._config.spec import BudgetSpec, Deadline
from promptmill._registry import Registry
from promptmill._routing import AllOf, AnyOf, Not, Route
from promptmill.errors import PluginError, Problem
from promptmill.interfaces import Condition
from promptmill.options import BuildContext


class RouteSpec(BaseModel):
    """A rule: requests for which ``when`` holds go ``to`` a provider."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    to: str = Field(description="The name of a provider.")
    when: dict[str, Any] | None = Field(None, description="Conditions that must all hold; left out: every request.")
    fallback: list[str] = Field(default_factory=list, description="Providers to try after it, in order.")
    budget: BudgetSpec | None = Field(None, description="The most the requests of this route may cost.")
    deadline: Deadline | None = Field(None, description="Time from the start of the run, e.g. 2h; default: the job's.")


HOW_ONLY: Final = frozenset({"budget", "deadline"})
"""Keys of a route that change nothing about answers."""


def read_routes(
    document: Document,
    given: list[dict[str, Any]] | None,
    providers: list[str],
    registry: Registry,
    context: BuildContext,
    problems: list[Problem],
) -> tuple[Route, ...]:
    """Check and build the routes; what is wrong is added to ``problems``."""
    if given is None:
        if len(providers) == 1:
            return (Route(providers[0]),)
        message = f"there are {len(providers)} providers and no routes"
        hint = f"add `routes: [{{to: {providers[0]}}}]`"
        problems.append(Problem("E0230", message, document.locate(("providers",), key=True), hint))
        return ()
    reader = _Reader(document, providers, registry, context, problems)
    routes = tuple(route for at, one in enumerate(given) if (route := reader.route(("routes", at), one)))
    if len(routes) == len(given) and routes[-1].when is not None:
        where = document.locate(("routes", len(given) - 1))
        message = "the last route does not match everything, so some requests would have nowhere to go"
        problems.append(Problem("E0230", message, where, f"add a last route such as `- {{to: {routes[-1].to}}}`"))
    return routes


class _Reader:
    def __init__(
        self,
        document: Document,
        providers: list[str],
        registry: Registry,
        context: BuildContext,
        problems: list[Problem],
    ) -> None:
        self._document = document
        self._providers = providers
        self._registry = registry
        self._context = context
        self._problems = problems

    def route(self, at: KeyPath, given: dict[str, Any]) -> Route | None:
        try:
            spec = RouteSpec.model_validate(given)
        except ValidationError as error:
            self._problems += problems_of(error, self._document, at, RouteSpec)
            return None
        self._check_provider((*at, "to"), spec.to)
        for number, name in enumerate(spec.fallback):
            self._check_provider((*at, "fallback", number), name)
        # `when:` with nothing behind it is a condition somebody meant to write, not one that always holds.
        when = self._all((*at, "when"), spec.when) if "when" in given else None
        return Route(
            to=spec.to,
            when=when,
            fallback=tuple(spec.fallback),
            budget_usd=None if spec.budget is None else spec.budget.usd,
            deadline_s=spec.deadline,
        )

    def _check_provider(self, at: KeyPath, name: str) -> None:
        if name not in self._providers:
            hint = f"defined: {', '.join(self._providers)}"
            message = f"there is no provider named {name!r} in this job"
            self._problems.append(Problem("E0231", message, self._document.locate(at), hint))

    def _all(self, at: KeyPath, given: Any) -> Condition | None:
        if not isinstance(given, dict) or not given:
            self._bad(at, "a condition is a mapping such as `{prompt_chars: {lt: 100}}`")
            return None
        found = [self._one((*at, name), name, value) for name, value in given.items()]
        held = tuple(condition for condition in found if condition is not None)
        return held[0] if len(held) == 1 else AllOf(held)

    def _one(self, at: KeyPath, name: str, value: Any) -> Condition | None:
        if name == "any":
            if not isinstance(value, list) or not value:
                self._bad(at, "`any` takes a list of conditions")
                return None
            found = [self._all((*at, number), one) for number, one in enumerate(value)]
            return AnyOf(tuple(condition for condition in found if condition is not None))
        if name == "not":
            inner = self._all(at, value)
            return None if inner is None else Not(inner)
        return self._named(at, name, value)

    def _named(self, at: KeyPath, name: str, value: Any) -> Condition | None:
        try:
            model = self._registry.get("condition", name)
        except PluginError as error:
            self._problems.append(Problem(error.code, error.message, self._document.locate(at, key=True), error.hint))
            return None
        if model.shorthand is not None and not isinstance(value, dict):
            value = {model.shorthand: value}
        try:
            built: Condition = model.model_validate(value).build(self._context)
        except ValidationError as error:
            self._problems += problems_of(error, self._document, at, model)
            return None
        return built

    def _bad(self, at: KeyPath, message: str) -> None:
        self._problems.append(Problem("E0205", message, self._document.locate(at)))
