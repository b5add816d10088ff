"""Where the keys of a job go, told before anything is sent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from promptmill.options import BuildContext

if TYPE_CHECKING:
    from promptmill._config import Job
    from promptmill.options import KeyUse


def lines_about_keys(job: Job, *, quiet: bool = False) -> Iterator[str]:
    """A line for each key and place it goes to, unless ``quiet``; and the warnings.

    Raises:
        UsageError: the job has to name a key.
    """
    users: dict[KeyUse, list[str]] = {}
    for name, provider in job.providers.items():
        for member in provider.members():
            for use in member.key_uses(BuildContext(name=name, base_dir=job.base_dir)):
                if name not in users.setdefault(use, []):
                    users[use].append(name)
    for use, names in users.items():
        if not quiet:
            yield f"key          {use.reference} goes to {use.server} ({', '.join(names)})"
        for doubt in use.doubts:
            yield f"warning: the key of {', '.join(names)}, {use.reference}: {doubt}"
