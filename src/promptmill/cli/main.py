"""The program: finds commands by entry point and imports only the one that is used."""

from __future__ import annotations

import os
import sys
from functools import cached_property
from typing import Any

import typer
from typer.core import TyperGroup

from promptmill._registry import Registry
from promptmill.cli import errors
from promptmill.cli.terminal import tell
from promptmill.errors import PluginError, PromptmillError

_COMMAND_ORDER = ("init", "check", "plan", "run", "plugins", "schema")

_HELP = """Push many prompts through language models: fast, cheaply, none lost.

\b
Examples:
  promptmill init job.yaml     write a job file to start from
  promptmill check job.yaml    check it and its input; sends nothing
  promptmill run job.yaml      run it
"""


class _Commands(TyperGroup):
    """Commands of every installed distribution, ours first."""

    @cached_property
    def _registry(self) -> Registry:
        return Registry()

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        names = self._registry.names("command")
        place = {name: at for at, name in enumerate(_COMMAND_ORDER)}
        return sorted(names, key=lambda name: (place.get(name, len(place)), name))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        if cmd_name not in self._registry.names("command"):
            return None
        try:
            offer = self._registry.get("command", cmd_name)
        except PluginError as error:
            return _as_command(cmd_name, _refusing(error), context_settings=_ANY_ARGUMENTS)
        return _as_command(cmd_name, offer)


_ANY_ARGUMENTS = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


def _as_command(name: str, offer: Any, **options: Any) -> Any:
    """A function or a typer app as a command of the group."""
    if isinstance(offer, typer.Typer):
        group = typer.main.get_group(offer)
        group.name = name
        return group
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(name, **options)(offer)
    return typer.main.get_command(app)


def _refusing(error: PluginError) -> Any:
    """A stand-in for a command that cannot be loaded, so that the help and the other commands still work."""

    def command() -> None:
        raise error

    command.__doc__ = f"(Out of order: {error.message})"
    return command


app = typer.Typer(
    name="promptmill",
    cls=_Commands,
    help=_HELP,
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
    _occupy_standard_descriptors()
    try:
        app()
    except PromptmillError as error:
        errors.show(error)
        sys.exit(error.exit_code)
    except Exception as error:
        if os.environ.get("PROMPTMILL_DEBUG"):
            raise
        said = getattr(error.__context__, "exit_code", None)
        if isinstance(error, OSError) and isinstance(
            said, int
        ):  # the command was wrong, and stderr takes no word of it
            tell()
            sys.exit(said)
        tell(f"error[E7000]: this is a bug in promptmill: {type(error).__name__}: {error}")
        tell("  = help: run it again with PROMPTMILL_DEBUG=1 and report the traceback")
        sys.exit(70)


def _occupy_standard_descriptors() -> None:
    """Put the null device where stdin, stdout or stderr is closed.

    The next file or socket opened would get its number, and messages would go there; libuv aborts when it sees that.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
