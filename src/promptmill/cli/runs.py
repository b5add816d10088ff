"""``promptmill runs``: the runs kept in a directory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptmill.cli.terminal import emit, one_line
from promptmill.hookspecs import hookimpl

if TYPE_CHECKING:
    from promptmill.options import RegisterCommand


def runs(
    directory: Annotated[Path, typer.Argument(help="Where the job files are.")] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="A JSON array on stdout.")] = False,
) -> None:
    """List the runs of the job files in a directory.

    Example: promptmill runs
    """
    from promptmill._locations import state_directory
    from promptmill._status import runs_in
    from promptmill.jsontext import encode

    found = runs_in(state_directory(directory))
    if as_json:
        emit(encode(found).decode())
        return
    for one in found:
        total = "?" if one.total is None else one.total
        emit(
            one_line(
                f"{one.job}  {one.run_id or '-'}  {one.state}  {one.succeeded} ok  {one.failed} failed  of {total}"
            )
        )


@hookimpl
def register_command(register: RegisterCommand) -> None:
    register("runs", runs)
