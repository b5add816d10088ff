"""What headers and statuses mean."""

from __future__ import annotations

import math
from email.utils import formatdate

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from promptmill.errors import AuthFailed, Permanent, ProviderError, QuotaExhausted, Throttled, Transient
from promptmill.http import failure_of, retry_after

WALL = 1_700_000_000.0
NAMES = ("retry-after-ms", "retry-after", "date", "x-should-retry", "x-request-id", "request-id")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": " 0.25 "}, 0.25),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "1000000000"}, 1e9),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after-ms": "-1", "retry-after": "9"}, 9.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "later"}, None),
        ({"retry-after": formatdate(WALL + 30, usegmt=True)}, 30.0),
        ({"retry-after": formatdate(WALL - 30, usegmt=True)}, None),
        # The server's clock is an hour ahead: only the difference of its own two stamps counts.
        ({"retry-after": formatdate(WALL + 3630, usegmt=True), "date": formatdate(WALL + 3600, usegmt=True)}, 30.0),
        ({"retry-after": formatdate(WALL + 30, usegmt=True), "date": "yesterday"}, 30.0),
        ({"retry-after": "Sun, 06 Nov 1994 08:49:37 -0000"}, None),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 -9999"}, None),
        ({"retry-after": "Mon, 01 Jan 0001 00:00:00 +2359"}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, wall=WALL) == seconds


dates = st.floats(-1e9, 4e9).map(formatdate)
numbers = st.floats().map(str) | st.integers().map(str)
texts = st.text(max_size=20) | numbers | dates | st.sampled_from(["true", "false", "Mon, 99 Foo 99999 99:99:99 +9999"])
# Drawing text is slow on a busy machine, which says nothing about the code under test.
patient = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
header_maps = st.dictionaries(st.sampled_from(NAMES), texts)


@patient
@given(header_maps, st.floats(0, 4e9))
def test_retry_after_is_a_sane_number_or_nothing(headers: dict[str, str], wall: float) -> None:
    seconds = retry_after(headers, wall=wall)
    assert seconds is None or 0 <= seconds < math.inf


@patient
@given(st.integers(100, 999), header_maps, st.none() | st.text(min_size=1))
def test_every_reply_is_some_failure(status: int, headers: dict[str, str], code: str | None) -> None:
    failure = failure_of(status, headers, message="no", code=code, wall=WALL)
    assert isinstance(failure, ProviderError)
    assert type(failure) is not ProviderError
    assert failure.http_status == status
    assert failure.retry_after == retry_after(headers, wall=WALL)
    assert failure.code == code if code else failure.code.isidentifier() and failure.code.islower()
    if status in (401, 403):
        assert isinstance(failure, AuthFailed)
    if status == 402:
        assert isinstance(failure, QuotaExhausted)


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (302, Permanent, "redirect"),
        (400, Permanent, "bad_request"),
        (401, AuthFailed, "auth"),
        (402, QuotaExhausted, "quota_exhausted"),
        (403, AuthFailed, "forbidden"),
        (404, Permanent, "not_found"),
        (408, Transient, "timeout"),
        (409, Transient, "conflict"),
        (413, Permanent, "too_large"),
        (418, Permanent, "bad_request"),
        (422, Permanent, "unprocessable"),
        (425, Transient, "too_early"),
        (429, Throttled, "rate_limited"),
        (500, Transient, "server_error"),
        (501, Permanent, "not_implemented"),
        (502, Transient, "bad_gateway"),
        (503, Transient, "overloaded"),
        (504, Transient, "gateway_timeout"),
        (520, Transient, "server_error"),
        (529, Throttled, "overloaded"),
        (999, Permanent, "unexpected_status"),
    ],
)
def test_table(status: int, kind: type[ProviderError], code: str) -> None:
    failure = failure_of(status, {}, message="no", wall=WALL)
    assert (type(failure), failure.code, failure.retry_after) == (kind, code, None)


def test_503_with_a_wait_is_throttling() -> None:
    failure = failure_of(503, {"retry-after": "7"}, message="busy", wall=WALL)
    assert isinstance(failure, Throttled)
    assert failure.retry_after == 7.0


@pytest.mark.parametrize(
    ("status", "asked", "kind"),
    [
        (400, "true", Transient),
        (429, "true", Throttled),
        (429, "false", Permanent),
        (500, "false", Permanent),
        (500, "perhaps", Transient),
        (401, "true", AuthFailed),
        (402, "true", QuotaExhausted),
        (403, "false", AuthFailed),
        (302, "true", Permanent),
    ],
)
def test_the_server_may_overrule(status: int, asked: str, kind: type[ProviderError]) -> None:
    assert type(failure_of(status, {"x-should-retry": asked}, message="no", wall=WALL)) is kind


@pytest.mark.parametrize(
    ("headers", "request_id"),
    [({"x-request-id": "a", "request-id": "b"}, "a"), ({"request-id": "b"}, "b"), ({}, None)],
)
def test_request_id(headers: dict[str, str], request_id: str | None) -> None:
    assert failure_of(500, headers, message="no", wall=WALL).request_id == request_id
