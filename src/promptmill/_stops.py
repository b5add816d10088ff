"""Why the engine ends a run early, in words and exit codes."""

from __future__ import annotations

from promptmill.errors import AuthFailed, NeverSent, QuotaExhausted, RunStopped


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


def quota(provider: str, failure: QuotaExhausted) -> RunStopped:
    """The quota of ``provider`` is gone and there is no other way."""
    return RunStopped(
        f"the quota of provider {provider!r} is used up: {failure.message}",
        code="E0510",
        exit_code=4,
        hint="top up or raise the limit, then run the same command again",
    )


def failure_rate(failed: int, finished: int, allowed: float) -> RunStopped:
    """More than the share ``allowed`` of the finished requests failed."""
    return RunStopped(
        f"{failed} of {finished} requests failed, more than the {allowed:.0%} that stop_when allows",
        code="E0520",
        exit_code=5,
        hint="look at the error of the failed records; the rest has not been sent",
    )
