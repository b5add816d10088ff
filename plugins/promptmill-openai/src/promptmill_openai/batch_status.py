"""The batch object: what the server says about a batch, in our words.

Source: the official SDK 3.54, ``types/batch.py``. Servers that speak the same API leave members out, or use null, lists
and words of their own: all of that is taken.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from promptmill.batch import BatchState, BatchStatus, LineProblem
from promptmill.errors import BadOutput, Permanent, ProviderError, Throttled
from promptmill.jsontext import JSON

_STATES: Final[Mapping[str, BatchState]] = {
    "validating": "pending",
    "in_progress": "running",
    "finalizing": "running",
    "cancelling": "cancelling",
    "completed": "completed",
    "failed": "failed",
    "expired": "expired",
    "cancelled": "cancelled",
}

_HANDLE: Final = re.compile(r"[A-Za-z0-9_-]{1,200}", re.ASCII)

_NO_ROOM: Final = "token_limit_exceeded"
"""Too many tokens wait in batches; nothing was billed. Source: openai/openai-python#2084."""

_LIMIT: Final = re.compile(r"\blimit:\s*([\d,]{1,30})", re.IGNORECASE | re.ASCII)

_LONGEST: Final = 1000


def status_of(value: JSON, *, wall: float) -> BatchStatus:
    """Read a batch object. ``wall`` is the time there, in seconds since the epoch. A state nobody knows is ``running``.

    Raises:
        BadOutput: it has no id that can be one.
    """
    handle = value.get("id") if isinstance(value, dict) else None
    if not isinstance(handle, str) or not _HANDLE.fullmatch(handle):
        raise BadOutput("the reply is no batch: it has no usable id", code="bad_reply")
    raw_state = value.get("status")
    raw_state = raw_state if isinstance(raw_state, str) else ""
    state = _STATES.get(raw_state.lower(), "running")
    problems = _problems(value.get("errors"))
    counts = value.get("request_counts")
    counts = counts if isinstance(counts, dict) else {}
    expires_at = value.get("expires_at")
    return BatchStatus(
        handle=handle,
        state=state,
        raw_state=raw_state[:_LONGEST],
        total=_count(counts.get("total")),
        completed=_count(counts.get("completed")),
        failed=_count(counts.get("failed")),
        expires_in=expires_at - wall
        if isinstance(expires_at, int | float) and not isinstance(expires_at, bool)
        else None,
        problems=problems,
        failure=_failure(problems) if state == "failed" else None,
        enqueued_limit=named_limit(problems),
    )


def file_ids(value: JSON) -> tuple[str | None, str | None]:
    """The ids of the output and the error file; None where there is none. An empty text is none (seen in the wild)."""
    output, errors = (value.get(name) for name in ("output_file_id", "error_file_id"))
    return _file_id(output), _file_id(errors)


def named_limit(problems: Sequence[LineProblem]) -> int | None:
    """The limit of enqueued tokens that the server names as its reason for refusing a batch."""
    for problem in problems:
        found = _LIMIT.search(problem.message) if problem.code == _NO_ROOM else None
        if found and found[1].replace(",", ""):
            return int(found[1].replace(",", ""))
    return None


def tag_of(value: JSON, key: str) -> str | None:
    """The metadata of a batch under ``key``."""
    metadata = value.get("metadata") if isinstance(value, dict) else None
    tag = metadata.get(key) if isinstance(metadata, dict) else None
    return tag if isinstance(tag, str) else None


def _file_id(value: JSON) -> str | None:
    return value if isinstance(value, str) and _HANDLE.fullmatch(value) else None


def _problems(errors: JSON) -> list[LineProblem]:
    entries = errors.get("data") if isinstance(errors, dict) else errors
    return [_problem(entry) for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _problem(entry: Mapping[str, JSON]) -> LineProblem:
    code, message, line = entry.get("code"), entry.get("message"), entry.get("line")
    return LineProblem(
        code=code if isinstance(code, str) and code else "batch_failed",
        message=message[:_LONGEST] if isinstance(message, str) and message else "the batch failed",
        line=line if isinstance(line, int) and not isinstance(line, bool) and line > 0 else None,
    )


def _failure(problems: Sequence[LineProblem]) -> ProviderError:
    no_room = next((problem for problem in problems if problem.code == _NO_ROOM), None)
    if no_room is not None:
        return Throttled(no_room.message, code=_NO_ROOM, dimension="enqueued_tokens")
    first = next(iter(problems), LineProblem(code="batch_failed", message="the batch failed"))
    return Permanent(first.message, code=first.code)


def _count(value: JSON) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
