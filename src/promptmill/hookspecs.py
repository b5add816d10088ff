"""The hooks, one per kind of component.

Each is called with a ``register`` function when the job names a component that the plugin's entry points offer. The
entry point is named ``kind.name`` in the group ``promptmill``, so that listing what is installed imports nothing::

    [project.entry-points.promptmill]
    "provider.echo" = "my_package.echo"

    # my_package/echo.py
    @hookimpl
    def register_provider(register):
        register("echo", EchoOptions)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pluggy

if TYPE_CHECKING:
    from promptmill.options import Register, RegisterCommand

ENTRY_POINT_GROUP: Final = "promptmill"

hookspec = pluggy.HookspecMarker("promptmill")
hookimpl = pluggy.HookimplMarker("promptmill")


@hookspec
def register_provider(register: Register) -> None:
    """Offer a provider: ``register(name, options)`` with a subclass of ``ProviderOptions``."""


@hookspec
def register_source(register: Register) -> None:
    """Offer a source: ``register(name, options)`` with a subclass of ``SourceOptions``."""


@hookspec
def register_sink(register: Register) -> None:
    """Offer a sink: ``register(name, options)`` with a subclass of ``SinkOptions``."""


@hookspec
def register_policy(register: Register) -> None:
    """Offer a retry policy: ``register(name, options)`` with a subclass of ``RetryOptions``."""


@hookspec
def register_condition(register: Register) -> None:
    """Offer a routing condition: ``register(name, options)`` with a subclass of ``ConditionOptions``."""


@hookspec
def register_observer(register: Register) -> None:
    """Offer an observer: ``register(name, options)`` with a subclass of ``ObserverOptions``."""


@hookspec
def register_command(register: RegisterCommand) -> None:
    """Offer a command: ``register(name, function)`` with a function typer can read."""
