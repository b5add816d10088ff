"""Where the state of runs is kept: beside the job file, in a directory named after the job."""

from __future__ import annotations

from pathlib import Path

from promptmill._statepaths import STATE_NAME


def state_directory(base_dir: Path) -> Path:
    """The directory of all runs of the job files in ``base_dir``."""
    return base_dir / STATE_NAME


def run_directory(job: Path) -> Path:
    """The directory of the run of a job file. Raises JobError when the file cannot be read, or its name is none."""
    from promptmill._config.document import Document
    from promptmill._config.naming import run_name

    data = Document.read(job).data
    name = data.get("name") if isinstance(data, dict) else None
    return state_directory(job.parent) / run_name(job, name)


def input_paths(job: Path) -> list[str]:
    """What a job file says its input is, as far as it says so. Raises JobError when it cannot be read."""
    from promptmill._config.document import Document

    data = Document.read(job).data
    given = data.get("input") if isinstance(data, dict) else None
    path = given.get("path") if isinstance(given, dict) else None
    return [one for one in (path if isinstance(path, list) else [path]) if isinstance(one, str)]
