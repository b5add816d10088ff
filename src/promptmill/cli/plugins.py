"""``promptmill plugins``: what is installed, from which distribution, without importing it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from promptmill._registry import KINDS, Registry
from promptmill.cli.terminal import emit, one_line
from promptmill.errors import UsageError
from promptmill.hookspecs import hookimpl
from promptmill.jsontext import encode

if TYPE_CHECKING:
    from promptmill.options import RegisterCommand


def plugins(
    kind: Annotated[str | None, typer.Argument(help=f"Only this kind: {', '.join(KINDS)}.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON array on stdout.")] = False,
) -> None:
    """List the components that are installed, without importing any.

    \b
    Examples:
      promptmill plugins
      promptmill plugins provider --json
    """
    if kind is not None and kind not in KINDS:
        raise UsageError(f"there is no kind {kind!r}", hint=f"the kinds are {', '.join(KINDS)}")
    found = Registry().installed(kind)
    if as_json:
        emit(encode(found).decode())
        return
    width = max((len(f"{one.kind}.{one.name}") for one in found), default=0)
    for one in found:
        emit(one_line(f"{one.kind + '.' + one.name:<{width}}  {one.distribution} {one.version}"))


@hookimpl
def register_command(register: RegisterCommand) -> None:
    register("plugins", plugins)
