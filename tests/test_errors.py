"""The tree of exceptions: exit codes, stable codes, and at least one problem each."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Iterator
from typing import Any

import pytest

from promptmill import errors
from promptmill.errors import (
    AuthFailed,
    BadOutput,
    InputError,
    JobError,
    Location,
    NeverSent,
    Permanent,
    PluginError,
    Problem,
    PromptmillError,
    ProviderError,
    QuotaExhausted,
    RunLocked,
    RunStopped,
    StartError,
    StorageError,
    Throttled,
    Transient,
    UsageError,
)
from promptmill.models import ErrorInfo


def family(base: type[PromptmillError]) -> Iterator[type[PromptmillError]]:
    yield base
    for one in base.__subclasses__():
        if one.__module__ == errors.__name__:
            yield from family(one)


@pytest.mark.parametrize(
    ("kind", "exit_code"),
    [
        (PromptmillError, 70),
        (UsageError, 2),
        (JobError, 2),
        (InputError, 2),
        (PluginError, 2),
        (StartError, 3),
        (StorageError, 6),
        (RunLocked, 7),
    ],
)
def test_exit_codes_are_those_of_the_command_line(kind: type[PromptmillError], exit_code: int) -> None:
    error = kind("what happened", hint="do this")
    assert error.exit_code == exit_code
    assert error.problems == (Problem(kind.default_code, "what happened", None, "do this"),)
    assert str(error) == error.message == "what happened"


def test_codes_are_stable_and_differ() -> None:
    codes = [kind.default_code for kind in family(PromptmillError) if not issubclass(kind, RunStopped)]
    assert len(set(codes)) == len(codes)
    for kind in family(PromptmillError):
        pattern = r"[a-z][a-z_]*" if issubclass(kind, ProviderError) else r"E\d{4}"
        assert re.fullmatch(pattern, kind.default_code), kind


def test_the_tree_is_drawn_in_full() -> None:
    drawn = re.findall(r"[├└]── (\w+)|^ +(\w+)  ", errors.__doc__ or "", re.MULTILINE)
    names = {one or other for one, other in drawn}
    assert {kind.__name__ for kind in family(PromptmillError)} <= names


def test_the_first_problem_gives_the_code() -> None:
    problems = (Problem("E0203", "first"), Problem("E0204", "second"))
    error = JobError("2 problems", problems=problems)
    assert (error.code, error.problems) == ("E0203", problems)
    assert JobError("x", code="E0299", problems=problems).code == "E0299"


def test_a_run_that_stopped_carries_its_own_exit_code() -> None:
    error = RunStopped("over", code="E0510", exit_code=4)
    assert (error.exit_code, error.code, error.results) == (4, "E0510", ())


@pytest.mark.parametrize(
    ("kind", "code", "retryable"),
    [
        (ProviderError, "provider_error", False),
        (NeverSent, "never_sent", True),
        (Throttled, "rate_limited", True),
        (QuotaExhausted, "quota_exhausted", False),
        (Transient, "transient", True),
        (Permanent, "bad_request", False),
        (AuthFailed, "auth", False),
        (BadOutput, "bad_output", True),
    ],
)
def test_a_failed_attempt_as_a_record_carries_it(kind: type[ProviderError], code: str, retryable: bool) -> None:
    failure = kind("no luck", http_status=418, retry_after=2.5, request_id="r1")
    assert failure.info() == ErrorInfo(code=code, message="no luck", http_status=418, retryable=retryable)
    assert (failure.retry_after, failure.request_id) == (2.5, "r1")
    assert kind("no luck", code="mine").info().code == "mine"


def test_a_throttled_attempt_may_name_the_dimension() -> None:
    assert Throttled("slow down", dimension="tokens").dimension == "tokens"
    assert Throttled("slow down").dimension is None


@pytest.mark.parametrize(
    "error",
    [
        JobError("m", hint="h", location=Location("job.yaml", 1, 2)),
        Throttled("m", http_status=429, retry_after=1.0, dimension="tokens"),
        RunStopped("m", code="E0510", exit_code=4, hint="h"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("again", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
def test_an_error_survives_a_process_border(error: PromptmillError, again: Any) -> None:
    other = again(error)
    assert type(other) is type(error)
    assert vars(other) == vars(error)
    assert str(other) == str(error)


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        (Location("job.yaml"), "job.yaml"),
        (Location("job.yaml", 3), "job.yaml:3"),
        (Location("job.yaml", 3, 7), "job.yaml:3:7"),
    ],
)
def test_a_location_reads_as_editors_want_it(location: Location, shown: str) -> None:
    assert str(location) == shown
