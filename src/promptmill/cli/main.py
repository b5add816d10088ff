"""The program: finds commands by entry point and imports only the one that is used."""

from __future__ import annotations

import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from promptmill._registry import Registry
from promptmill.cli import errors
from promptmill.cli.terminal import tell
from promptmill.errors import PromptmillError

_COMMAND_ORDER = ("run", "check", "init", "plugins", "schema")


class _Commands(TyperGroup):
    """Commands of every installed distribution, ours first."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        names = Registry().names("command")
        return sorted(names, key=lambda name: (name not in _COMMAND_ORDER, name))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        registry = Registry()
        if cmd_name not in registry.names("command"):
            return None
        return _as_command(cmd_name, registry.get("command", cmd_name))


def _as_command(name: str, offer: Any) -> Any:
    """A function or a typer app as a command of the group."""
    if isinstance(offer, typer.Typer):
        group = typer.main.get_group(offer)
        group.name = name
        return group
    app = typer.Typer(add_completion=False)
    app.command(name)(offer)
    return typer.main.get_command(app)


app = typer.Typer(
    name="promptmill",
    cls=_Commands,
    help="Push many prompts through language models: fast, cheaply, none lost.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("promptmill"))
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
) -> None:
    pass


def main() -> None:
    """Run the program and exit with one of the documented codes."""
    try:
        app()
    except PromptmillError as error:
        errors.show(error)
        sys.exit(error.exit_code)
    except Exception as error:
        if os.environ.get("PROMPTMILL_DEBUG"):
            raise
        tell(f"error[E7000]: this is a bug in promptmill: {type(error).__name__}: {error}")
        tell("  = help: run it again with PROMPTMILL_DEBUG=1 and report the traceback")
        sys.exit(70)
