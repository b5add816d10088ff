"""``promptmill export JOB``: the results of a run in another form, for nothing."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptmill.cli.run import JobPath
from promptmill.cli.terminal import tell
from promptmill.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterator

    from promptmill.options import RegisterCommand


def export(
    job: JobPath,
    output: Annotated[str, typer.Option("--output", "-o", help="The file to write; - for stdout (lines only).")] = "-",
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            "-f",
            help="A sink such as jsonl, csv or parquet, or batch-output; default: by the ending of the file.",
        ),
    ] = None,
) -> None:
    """Write all results a run has so far, from its journal. Calls nobody, also while the run goes on.

    \b
    Examples:
      promptmill export job.yaml --output answers.csv
      promptmill export job.yaml --format batch-output > lines.jsonl
    """
    from promptmill import _export
    from promptmill._locations import input_paths, run_directory
    from promptmill._readers import shut_out_others
    from promptmill.errors import UsageError

    form = form or ("jsonl" if output == "-" else _form_for(output))
    directory = run_directory(job)
    shut_out_others(input_paths(job), job.parent)
    streams = {"jsonl": _export.records, _export.BATCH_OUTPUT: _export.batch_lines}
    if output == "-":
        if form not in streams:
            raise UsageError(f"the format {form!r} needs a file", code="E0131", hint=f"--output answers.{form}")
        _to_stdout(streams[form](directory))
    elif form == _export.BATCH_OUTPUT:
        count = _to_file(Path(output), streams[form](directory))
        tell(f"wrote {count:,} lines to {output}")
    else:
        import anyio

        from promptmill.cli import warnings

        with warnings.log_told(), _export.unfinished(Path(output)) as part:
            count = anyio.run(_export.export, directory, form, part)
        tell(f"wrote {count:,} results to {output}")


def _form_for(output: str) -> str:
    from promptmill._config.outputs import known_endings, sink_for
    from promptmill.errors import UsageError

    if (form := sink_for(output)) is None:
        raise UsageError(
            f"no format goes by the ending of {output!r}",
            code="E0134",
            hint=f"known are {known_endings()}; for others name it: --format jsonl",
        )
    return form


def _to_stdout(lines: Iterator[bytes]) -> None:
    from promptmill.cli.terminal import emit_bytes

    for line in lines:
        if not emit_bytes(line):
            return


def _to_file(path: Path, lines: Iterator[bytes]) -> int:
    import os

    from promptmill._export import unfinished
    from promptmill.errors import UsageError

    count = 0
    try:
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        with unfinished(path) as part, part.open("xb") as file:
            for line in lines:
                file.write(line)
                count += 1
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UsageError(f"{str(path)!r} cannot be written: {error.strerror}", code="E0132") from error
    return count


@hookimpl
def register_command(register: RegisterCommand) -> None:
    register("export", export)
