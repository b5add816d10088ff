"""``promptmill schema``: the JSON Schema of the job file with everything that is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from promptmill.cli.terminal import emit
from promptmill.errors import UsageError
from promptmill.hookspecs import hookimpl

if TYPE_CHECKING:
    from promptmill.options import RegisterCommand


def schema(
    draft: Annotated[str, typer.Option(help="2020-12, or 07 for YAML editors.")] = "2020-12",
) -> None:
    """Print the JSON Schema of the job file, with the options of every installed plugin.

    \b
    Examples:
      promptmill schema > job.schema.json
      promptmill schema --draft 07
    """
    import json

    from promptmill._config.schema import DRAFT_07, DRAFT_2020, job_schema
    from promptmill._registry import Registry

    drafts = {"2020-12": DRAFT_2020, "07": DRAFT_07, "7": DRAFT_07, "draft-07": DRAFT_07}
    if draft not in drafts:
        raise UsageError(f"there is no draft {draft!r}", hint="2020-12 or 07")
    emit(json.dumps(job_schema(Registry(), draft=drafts[draft]), indent=2))


@hookimpl
def register_command(register: RegisterCommand) -> None:
    register("schema", schema)
