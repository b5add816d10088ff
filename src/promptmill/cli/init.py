"""``promptmill init``: a job file to start from."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptmill.cli.terminal import tell
from promptmill.errors import UsageError
from promptmill.hookspecs import hookimpl

if TYPE_CHECKING:
    from promptmill.options import RegisterCommand

SCHEMA_NAME = "promptmill.schema.json"


def init(
    path: Annotated[Path, typer.Argument(help="The job file to write.")] = Path("job.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a commented job file, three prompts to try it on, and the schema that lets an editor complete it.

    \b
    Examples:
      promptmill init
      promptmill init jobs/answers.yaml
    """
    import json

    from promptmill._config.schema import DRAFT_07, job_schema
    from promptmill._registry import Registry

    prompts = path.with_name("prompts.jsonl")
    schema = path.with_name(SCHEMA_NAME)
    if path.exists() and not force:
        raise UsageError(f"{str(path)!r} exists already", code="E0120", hint="name another file, or use --force")
    templates = files("promptmill.cli") / "templates"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text((templates / "job.yaml").read_text("utf-8").replace("SCHEMA_NAME", SCHEMA_NAME), "utf-8")
        schema.write_text(json.dumps(job_schema(Registry(), draft=DRAFT_07), indent=1) + "\n", "utf-8")
        if not prompts.exists():
            prompts.write_text((templates / "prompts.jsonl").read_text("utf-8"), "utf-8")
    except OSError as error:
        raise UsageError(f"{str(path)!r} cannot be written: {error.strerror}", code="E0121") from error
    tell(f"wrote {path}, {prompts} and {schema}")
    tell(f"next: promptmill check {path}, then promptmill run {path}")


@hookimpl
def register_command(register: RegisterCommand) -> None:
    register("init", init)
