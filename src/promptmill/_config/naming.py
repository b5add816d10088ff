"""The name of a job, which is that of a directory too."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from promptmill.errors import JobError, Location

NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"
"""What a job may say its name is."""

_UNFIT_STEM: Final = re.compile(r"\.*|.*[\x00-\x1f\x7f].*", re.DOTALL)
"""``..`` is the stem of ``...yaml``, and the directory above."""


def run_name(job: Path, given: object) -> str:
    """The name of the run of a job file: what its key ``name`` says, else the stem of the file.

    Raises:
        JobError: it cannot be the name of a directory, and might be another one's (E0205).
    """
    if isinstance(given, str):
        if not re.fullmatch(NAME_PATTERN, given):
            raise JobError(
                "name: should be letters, digits, `_`, `.` and `-`, and begin with a letter or a digit",
                code="E0205",
                location=Location(str(job)),
            )
        return given
    if _UNFIT_STEM.fullmatch(job.stem):
        raise JobError(
            f"the name of the job file {job.name!r} cannot be that of its run",
            code="E0205",
            hint="give the job a `name: ...`, or rename the file",
            location=Location(str(job)),
        )
    return job.stem
