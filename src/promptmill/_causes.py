"""What is behind an exception group."""

from __future__ import annotations

from promptmill.errors import PromptmillError


def only_cause(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The exception behind a task group's: the only one there is, or the first when all are failures we know."""
    known = errors.split(PromptmillError)[1] is None
    cause: BaseException = errors
    while isinstance(cause, BaseExceptionGroup) and (known or len(cause.exceptions) == 1):
        cause = cause.exceptions[0]
    return cause
