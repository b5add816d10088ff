"""Every exception of promptmill, and the classes of failure of a provider call.

::

    PromptmillError                 what all of them are; has .code, .exit_code, .problems
    ├── UsageError                  exit 2: something asked for cannot be done; nothing was sent
    │   ├── JobError                the job file is wrong
    │   ├── InputError              the input cannot be read, or breaks a rule of the job
    │   └── PluginError             a component is unknown, doubled, broken or not allowed
    ├── StartError                  exit 3: no authentication or no connection
    ├── StorageError                exit 6: a sink or the disk failed
    │   └── RowRejected             a sink takes all rows but this one
    ├── RunLocked                   exit 7: another process has the run
    ├── RunStopped                  a run ended early; its own .exit_code says why (3, 4, 5, 6, 70, 130, 143)
    └── ProviderError               one attempt failed; the class says what that means
        ├── NeverSent               nothing reached the provider: free to try again
        ├── Throttled               rate limited: try later; .retry_after, .dimension
        ├── QuotaExhausted          money or quota is gone: stop this account
        ├── Transient               may work next time
        ├── Permanent               will fail again: the request is at fault
        ├── AuthFailed              the key is refused: stop the run
        └── BadOutput               an answer came, and it is of no use

The provider classifies, the retry policy decides, the engine waits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from promptmill.models import ErrorInfo, LimitReading, Result


class Location(msgspec.Struct, frozen=True):
    """A place in a file of the user's. ``line`` and ``column`` are 1-based, ``length`` the characters to underline."""

    file: str
    line: int | None = None
    column: int | None = None
    length: int = 1
    source: str | None = None

    def __str__(self) -> str:
        return ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong: what, where, and what to do about it."""

    code: str
    message: str
    location: Location | None = None
    hint: str | None = None
    note: str | None = None
    key: str | None = None
    """The key of the job file it is about, such as ``messages[1].content``, where the place is not known yet."""


class PromptmillError(Exception):
    """Base of all. ``code`` is stable, ``problems`` has at least one entry, ``exit_code`` is the CLI's."""

    exit_code: int = 70
    calls_made: bool = False
    """Whether calls had been made, and perhaps paid for, before it was raised."""
    default_code: ClassVar[str] = "E7000"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        hint: str | None = None,
        location: Location | None = None,
        problems: tuple[Problem, ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or (problems[0].code if problems else self.default_code)
        self.hint = hint
        self.problems = problems or (Problem(self.code, message, location, hint),)

    def __reduce__(self) -> tuple[Any, ...]:
        # The default calls the class with the message alone, which fails where more is required.
        return _again, (type(self), self.args, vars(self))


def _again(kind: type[PromptmillError], args: tuple[Any, ...], state: Mapping[str, Any]) -> PromptmillError:
    error = kind.__new__(kind, *args)
    vars(error).update(state)
    return error


class UsageError(PromptmillError):
    """Something asked for cannot be done. Nothing was sent."""

    exit_code = 2
    default_code = "E0100"


class JobError(UsageError):
    """The job file is wrong."""

    default_code = "E0200"


class InputError(UsageError):
    """The input cannot be read, or breaks a rule of the job."""

    default_code = "E0300"


class PluginError(UsageError):
    """A component is unknown, doubled, broken or not allowed."""

    default_code = "E0400"


class StartError(PromptmillError):
    """No authentication or no connection; little or nothing was sent."""

    exit_code = 3
    default_code = "E0500"


class StorageError(PromptmillError):
    """A sink or the disk under it failed."""

    exit_code = 6
    default_code = "E0600"


class RowRejected(StorageError):
    """A sink does not take one row. Nothing of its group was written; the others will be offered again without it."""

    default_code = "E0630"

    def __init__(self, message: str, *, result_id: str) -> None:
        super().__init__(message)
        self.result_id = result_id


class RunLocked(PromptmillError):
    """Another process has the run."""

    exit_code = 7
    default_code = "E0700"


class RunStopped(PromptmillError):
    """A run ended before all requests had. What has finished is kept; the rest can be run later.

    ``exit_code`` is the instance's: 3 no authentication or connection, 4 quota, 5 failure rate, 6 storage, 70 a
    broken plugin, 130 and 143 interrupted. ``results`` are the finished ones when the run was gathered.
    """

    results: tuple[Result, ...] = ()

    def __init__(self, message: str, *, code: str, exit_code: int, hint: str | None = None) -> None:
        super().__init__(message, code=code, hint=hint)
        self.exit_code = exit_code


class ProviderError(PromptmillError):
    """One attempt failed. Raise a subclass: the class says what the failure means.

    Args:
        message: for people; may quote the provider.
        code: stable, snake_case, made for programs; it becomes ``error.code`` of the record.
        http_status: the status of the reply, when there was one.
        retry_after: seconds the provider asks to wait, when it said so.
        request_id: the provider's name for the call.

    ``limits`` may be set to what the provider says of its rate limits with the refusal.
    """

    default_code = "provider_error"
    limits: tuple[LimitReading, ...] = ()
    retryable: ClassVar[bool] = False
    """Whether the same request may succeed later."""

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        http_status: int | None = None,
        retry_after: float | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, code=code)
        self.http_status = http_status
        self.retry_after = retry_after
        self.request_id = request_id

    def info(self) -> ErrorInfo:
        """The failure as a record carries it."""
        return ErrorInfo(code=self.code, message=self.message, http_status=self.http_status, retryable=self.retryable)


class NeverSent(ProviderError):
    """Nothing can have reached the provider (DNS, refused, TLS): trying again cannot be paid twice."""

    default_code = "never_sent"
    retryable = True


class Throttled(ProviderError):
    """Rate limited or overloaded. ``dimension`` names the limit when known: requests, tokens, ..."""

    default_code = "rate_limited"
    retryable = True

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        http_status: int | None = None,
        retry_after: float | None = None,
        request_id: str | None = None,
        dimension: str | None = None,
    ) -> None:
        super().__init__(message, code=code, http_status=http_status, retry_after=retry_after, request_id=request_id)
        self.dimension = dimension


class QuotaExhausted(ProviderError):
    """Money or quota is gone: asking again only costs time."""

    default_code = "quota_exhausted"


class Transient(ProviderError):
    """A timeout, a reset, a server error: may work next time. The request may have been processed and billed."""

    default_code = "transient"
    retryable = True


class Permanent(ProviderError):
    """The request is at fault and will fail again."""

    default_code = "bad_request"


class AuthFailed(ProviderError):
    """The key is refused or lacks a permission. Stops the run; no request is marked failed for it."""

    default_code = "auth"


class BadOutput(ProviderError):
    """An answer came that cannot be used: not JSON, of the wrong shape, or rejected by a check."""

    default_code = "bad_output"
    retryable = True
