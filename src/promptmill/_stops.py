"""Why the engine ends a run early, in words and exit codes."""

from __future__ import annotations

from typing import Final

from promptmill.errors import AuthFailed, NeverSent, ProviderError, RowRejected, RunStopped, StorageError

UNREACHABLE_SECONDS: Final = 5.0
"""A provider that never answered is given this long before the run is stopped."""

BROKEN_IN_A_ROW: Final = 20
"""A plugin that raises on this many requests in a row is broken, and the run is stopped."""

PATIENCE_SECONDS: Final = 3600.0
"""A provider that has answered nothing for so long ends the run, with nothing marked failed."""


def auth(provider: str, failure: AuthFailed) -> RunStopped:
    """``provider`` refuses its key."""
    return RunStopped(
        f"provider {provider!r} refused the key: {failure.message}",
        code="E0501",
        exit_code=3,
        hint="check the provider's api_key, organization and project, then run the same command again",
    )


def unreachable(provider: str, failure: NeverSent) -> RunStopped:
    """``provider`` has never been reached."""
    return RunStopped(
        f"provider {provider!r} cannot be reached: {failure.message}",
        code="E0502",
        exit_code=3,
        hint="check its base_url, the network and the proxy, then run the same command again",
    )


def quota(provider: str, failure: ProviderError) -> RunStopped:
    """The quota of ``provider`` is gone and there is no other way."""
    return RunStopped(
        f"the quota of provider {provider!r} is used up: {failure.message}",
        code="E0510",
        exit_code=4,
        hint="top up or raise the limit, then run the same command again",
    )


def silent(provider: str, failure: ProviderError) -> RunStopped:
    """``provider`` has not answered a single call for long."""
    return RunStopped(
        f"provider {provider!r} has answered nothing for an hour: {failure.message} ({failure.code})",
        code="E0522",
        exit_code=5,
        hint="nothing is marked failed for it; when the provider is well, run the same command again",
    )


def budget(scope: str) -> RunStopped:
    """There is no money for what is left."""
    whose = "the job" if scope == "run" else scope
    return RunStopped(
        f"the budget of {whose} has not enough left for the next request at its worst",
        code="E0511",
        exit_code=4,
        hint="raise `budget` and run the same command again; what has finished is kept, and nothing more was sent",
    )


def failure_rate(failed: int, finished: int, allowed: float) -> RunStopped:
    """More than the share ``allowed`` of the finished requests failed."""
    return RunStopped(
        f"{failed} of {finished} requests failed, more than the {allowed:.0%} that stop_when allows",
        code="E0520",
        exit_code=5,
        hint="look at the error of the failed records; the rest has not been sent",
    )


def deadline() -> RunStopped:
    """The deadline of the job has come."""
    return RunStopped(
        "the deadline of the job has come",
        code="E0521",
        exit_code=5,
        hint="what has finished is kept; run the same command again to do the rest, with the deadline counted anew",
    )


def detached(requests: int, batches: int) -> RunStopped:
    """All that is left is in batches, and the user did not want to wait for them."""
    return RunStopped(
        f"{requests} requests are in {counted(batches, 'batch', 'batches')}, to go on without this process",
        code="E0550",
        exit_code=5,
        hint="run the same command again to collect them; `--cancel-batches` ends them and keeps what has finished",
    )


def counted(number: int, one: str, many: str) -> str:
    """``1 batch``, ``2 batches``."""
    return f"{number:,} {one if number == 1 else many}"


def batches_cancelled(left: int) -> RunStopped:
    """The user wanted all batches ended."""
    return RunStopped(
        f"all batches are ended, and {left} requests have no answer",
        code="E0551",
        exit_code=5,
        hint="run the job without `--cancel-batches` to send them again",
    )


def batch_trouble(provider: str, failure: ProviderError) -> RunStopped:
    """Something is wrong with a batch that nobody but the user can mend."""
    return RunStopped(
        f"a batch of provider {provider!r} has come to nothing: {failure.message} ({failure.code})",
        code="E0552",
        exit_code=5,
        hint="check the key, the project and the account, then run the same command again; `--cancel-batches` lets go "
        "of a batch that is gone, and its requests are sent, and may be paid, again by the next run",
    )


def broken(provider: str, error: Exception) -> RunStopped:
    """A plugin raised what no plugin should."""
    return RunStopped(
        f"provider {provider!r} raised {type(error).__name__}: {error}",
        code="E7001",
        exit_code=70,
        hint="this is a bug of the plugin; its batches are untouched, and the run can go on with a mended one",
    )


def broken_again(provider: str, error: BaseException) -> RunStopped:
    """A plugin raises on every request."""
    return RunStopped(
        f"provider {provider!r} raised {type(error).__name__} on {BROKEN_IN_A_ROW} requests in a row: {error}",
        code="E7001",
        exit_code=70,
    )


def sink_behind(failure: StorageError) -> RunStopped:
    """A sink failed, and was still failing at the end."""
    return RunStopped(
        f"a sink does not have all results: {failure.message}",
        code=failure.code,
        exit_code=failure.exit_code,
        hint="they are safe in the journal: see to the sink, then run the same command again; no call is repeated",
    )


def rows_rejected(sink: str, count: int, first: str, reason: str) -> RunStopped:
    """A sink has all results but ``count`` that it does not take; ``first`` is the id of one of them."""
    rows = f"{counted(count, 'row is', 'rows are')} not in the sink {sink}"
    named = f"row {first!r}" if count == 1 else f"the first is {first!r}"
    return RunStopped(
        f"{rows}; {named}: {reason}",
        code=RowRejected.default_code,
        exit_code=RowRejected.exit_code,
        hint="they are safe in the journal, and `promptmill status` names them: see to the sink, then run the same "
        "command again, which offers them once more; no call is repeated",
    )
