"""Kind and name to options class.

Entry points are listed without importing anything; a plugin is imported when a component of its is asked for by name.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

import msgspec
import pluggy

from promptmill import hookspecs
from promptmill.errors import PluginError

KINDS: Final = ("provider", "source", "sink", "policy", "condition", "observer", "command")

_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}")


class Installed(msgspec.Struct, frozen=True, order=True):
    """One component an installed distribution offers. ``module`` has not been imported."""

    kind: str
    name: str
    distribution: str
    version: str
    module: str


class Registry:
    """What can be named in a job. ``points`` replaces the installed entry points, for tests."""

    def __init__(self, points: Iterable[EntryPoint] | None = None) -> None:
        self._points = list(entry_points(group=hookspecs.ENTRY_POINT_GROUP) if points is None else points)
        self._manager = pluggy.PluginManager("promptmill")
        self._manager.add_hookspecs(hookspecs)
        self._offers: dict[tuple[str, str], Any] = {}

    def installed(self, kind: str | None = None) -> list[Installed]:
        """Everything on offer, sorted, without importing it."""
        found = {_describe(point) for point in self._points if "." in point.name}
        return sorted(one for one in found if kind in (None, one.kind))

    def names(self, kind: str) -> list[str]:
        """The names of one kind, sorted."""
        registered = {name for offered, name in self._offers if offered == kind}
        offered = (point.name.partition(".") for point in self._points)
        return sorted({name for of_kind, _, name in offered if of_kind == kind and name} | registered)

    def add(self, kind: str, name: str, offer: Any) -> None:
        """Register an options class (or a command) by hand, under a free name."""
        if kind not in KINDS:
            raise PluginError(f"unknown kind of component {kind!r}; the kinds are {', '.join(KINDS)}", code="E0400")
        if not _NAME.fullmatch(name):
            raise PluginError(f"{kind} name {name!r} is not lower-case letters, digits, - and _", code="E0401")
        if (kind, name) in self._offers:
            raise PluginError(f"{kind} {name!r} is registered twice", code="E0402")
        if not (callable(offer) if kind == "command" else getattr(offer, "kind", None) == kind):
            wanted = "a function" if kind == "command" else f"an options class of the kind {kind!r}"
            raise PluginError(f"{kind} {name!r} is registered with {offer!r}, not with {wanted}", code="E0405")
        self._offers[kind, name] = offer

    def get(self, kind: str, name: str) -> Any:
        """The options class (for a command: its function) registered under ``name``; imports its module when needed.

        Raises:
            PluginError: nothing of that name, several distributions offer it, or its module does not load.
        """
        if (kind, name) not in self._offers:
            self._load(kind, name)
        return self._offers[kind, name]

    def _load(self, kind: str, name: str) -> None:
        points = {point.value: point for point in self._points if point.name == f"{kind}.{name}"}
        if not points:
            raise PluginError(*self._unknown(kind, name), code="E0403")
        if len(points) > 1:
            owners = " and ".join(sorted(_describe(point).distribution for point in points.values()))
            raise PluginError(f"{kind} {name!r} is offered by {owners}", code="E0402", hint="uninstall one of them")
        point = next(iter(points.values()))
        owner = _describe(point)
        try:
            plugin = point.load()
            if not self._manager.is_registered(plugin):
                self._register(plugin, owner)
        except PluginError:
            raise
        except (Exception, SystemExit) as error:
            message = f"{kind} {name!r} of {owner.distribution} {owner.version} cannot be loaded"
            raise PluginError(f"{message}: {type(error).__name__}: {error}", code="E0404") from error
        if (kind, name) not in self._offers:
            raise PluginError(
                f"{owner.module!r} of {owner.distribution} does not register {kind} {name!r}", code="E0405"
            )

    def _register(self, plugin: Any, owner: Installed) -> None:
        """Take all that a module offers, or nothing of it."""
        before = dict(self._offers)
        try:
            self._manager.register(plugin, name=owner.module)
            self._manager.check_pending()
            self._call_hooks(plugin, owner)
        except BaseException as error:
            self._offers = before
            if self._manager.is_registered(plugin):
                self._manager.unregister(plugin)
            if isinstance(error, pluggy.PluginValidationError):
                raise PluginError(f"{owner.module!r} of {owner.distribution}: {error}", code="E0405") from error
            raise

    def _call_hooks(self, plugin: Any, owner: Installed) -> None:
        def add(name: str, offer: Any, *, kind: str) -> None:
            full_name = f"{kind}.{name}"
            modules = {point.value for point in self._points if point.name == full_name}
            # Otherwise a plugin could take the name of another one's component by being loaded first.
            if owner.module not in modules:
                message = f"{owner.module!r} of {owner.distribution} registers {kind} {name!r} without an entry point"
                raise PluginError(f"{message} {full_name!r}", code="E0405")
            # A doubled name is nobody's, whichever module is loaded for the sake of another name.
            if len(modules) == 1:
                self.add(kind, name, offer)

        others = [other for other in self._manager.get_plugins() if other is not plugin]
        for kind in KINDS:
            self._manager.subset_hook_caller(f"register_{kind}", others)(register=partial(add, kind=kind))

    def _unknown(self, kind: str, name: str) -> tuple[str]:
        known = self.names(kind)
        close = difflib.get_close_matches(name, known, 1)
        advice = f"did you mean {close[0]!r}?" if close else f"installed: {', '.join(known) or 'none'}"
        return (f"there is no {kind} {name!r}; {advice}",)


def _describe(point: EntryPoint) -> Installed:
    kind, _, name = point.name.partition(".")
    distribution = point.dist
    return Installed(
        kind=kind,
        name=name,
        distribution=distribution.name if distribution else "(none)",
        version=distribution.version if distribution else "",
        module=point.value,
    )
