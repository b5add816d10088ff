"""What rate-limit headers mean, in every dialect."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import formatdate

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from promptmill.http import limits_of
from promptmill.models import LimitedThing, LimitReading

WALL = 1_700_000_000.0
HOUR = 3600.0
DAY = 86400.0


def stamp(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z")


def reading(
    what: LimitedThing,
    limit: float | None = None,
    remaining: float | None = None,
    reset_in: float | None = None,
    *,
    window: float = 60.0,
) -> LimitReading:
    return LimitReading(what=what, window=window, limit=limit, remaining=remaining, reset_in=reset_in)


def triple(what: str, limit: object, remaining: object, reset: object) -> dict[str, str]:
    values = {"limit": limit, "remaining": remaining, "reset": reset}
    return {f"x-ratelimit-{field}-{what}": str(value) for field, value in values.items()}


def reset_of(text: str, *, date: str | None = None, wall: float = WALL) -> float | None:
    headers = {"x-ratelimit-limit": "10", "x-ratelimit-reset": text}
    (found,) = limits_of(headers if date is None else {**headers, "date": date}, wall=wall)
    return found.reset_in


DIALECTS: dict[str, tuple[dict[str, str], list[LimitReading]]] = {
    "requests and tokens, Go durations": (
        triple("requests", 60, 59, "1s") | triple("tokens", 150000, 149984, "20ms"),
        [reading("requests", 60, 59, 1), reading("tokens", 150000, 149984, 0.02)],
    ),
    "requests a day, tokens a minute, and nothing says so": (
        triple("requests", 14400, 14370, "2m59.56s") | triple("tokens", 18000, 17997, "7.66s"),
        [reading("requests", 14400, 14370, 179.56, window=DAY), reading("tokens", 18000, 17997, 7.66)],
    ),
    "bare seconds": (triple("tokens", 1000, 10, 10), [reading("tokens", 1000, 10, 10)]),
    "no x": ({"ratelimit-limit-tokens": "9"}, [reading("tokens", 9)]),
    "a prefix of several words": (
        {"acme-ai-ratelimit-remaining-requests": "9"},
        [reading("requests", None, 9)],
    ),
    "field last, timestamps": (
        {
            "acme-ratelimit-requests-limit": "50",
            "acme-ratelimit-requests-remaining": "49",
            "acme-ratelimit-requests-reset": stamp(WALL + 2),
            "acme-ratelimit-tokens-limit": "90000",
            "acme-ratelimit-tokens-remaining": "89000",
            "acme-ratelimit-tokens-reset": stamp(WALL + 1),
            "acme-ratelimit-input-tokens-limit": "80000",
            "acme-ratelimit-input-tokens-remaining": "79000",
            "acme-ratelimit-input-tokens-reset": stamp(WALL + 3),
            "acme-ratelimit-output-tokens-limit": "10000",
            "acme-ratelimit-output-tokens-remaining": "0",
            "acme-ratelimit-output-tokens-reset": stamp(WALL + 60),
        },
        [
            reading("requests", 50, 49, 2),
            reading("tokens", 90000, 89000, 1),
            reading("input_tokens", 80000, 79000, 3),
            reading("output_tokens", 10000, 0, 60),
        ],
    ),
    "windows in the name": (
        triple("requests-day", 1000, 999, "33011.382867")
        | triple("requests-hour", 100, 99, 61)
        | triple("tokens-minute", 60000, 59000, 1)
        | triple("tokens-second", 1000, 900, 0.1),
        [
            reading("requests", 1000, 999, 33011.382867, window=DAY),
            reading("requests", 100, 99, 61, window=HOUR),
            reading("tokens", 60000, 59000, 1),
            reading("tokens", 1000, 900, 0.1, window=1),
        ],
    ),
    "a window does not hide the limit without one": (
        triple("requests", 800, 795, 5) | triple("requests-1h", 33600, 33590, 1800),
        [reading("requests", 800, 795, 5), reading("requests", 33600, 33590, 1800, window=HOUR)],
    ),
    "shorter and longer windows": (
        {
            "x-ratelimit-limit-req-minute": "50",
            "x-ratelimit-limit-tokens-month": "4000000",
            "x-ratelimit-limit-requests-per-week": "7",
            "acme-ratelimit-tokens-minute-limit": "6",
        },
        [
            reading("requests", 50),
            reading("tokens", 4000000, window=30 * DAY),
            reading("requests", 7, window=7 * DAY),
            reading("tokens", 6),
        ],
    ),
    "only a window": (
        {"x-ratelimit-limit-minute": "5", "x-ratelimit-remaining-minute": "4"},
        [reading("requests", 5, 4)],
    ),
    "no dimension": (
        {"x-ratelimit-limit": "20", "x-ratelimit-remaining": "19", "x-ratelimit-reset": "3"},
        [reading("requests", 20, 19, 3)],
    ),
    "the draft": (
        {"ratelimit-limit": "100", "ratelimit-remaining": "50", "ratelimit-reset": "50"},
        [reading("requests", 100, 50, 50)],
    ),
    "the draft with a window": (
        {"ratelimit-limit": "100;w=10", "ratelimit-remaining": "50", "ratelimit-reset": "50"},
        [reading("requests", 100, 50, 50, window=10)],
    ),
    "the draft with policies": (
        {"ratelimit-limit": '100, 10;w=1, 1000;w=3600, 100;w=60;comment="a, b"', "ratelimit-reset": "300"},
        [reading("requests", 100, None, 300)],
    ),
    "limits of the same kind": (
        triple("tokens", 150000, 149984, "1s")
        | triple("project-tokens", 60000, 57000, "3s")
        | triple("tokens_usage_based", 40000, 39999, "9ms")
        | triple("project-requests", 6, 5, "2s"),
        [
            reading("tokens", 150000, 149984, 1),
            reading("tokens", 60000, 57000, 3),
            reading("tokens", 40000, 39999, 0.009),
            reading("requests", 6, 5, 2),
        ],
    ),
    "input and output by other names": (
        {"x-ratelimit-limit-tokens-prompt": "900", "x-ratelimit-limit-tokens-generated": "90"},
        [reading("input_tokens", 900), reading("output_tokens", 90)],
    ),
    "the order of the headers is that of the readings": (
        {"x-ratelimit-remaining-tokens": "1", "x-ratelimit-limit-requests": "2", "x-ratelimit-limit-tokens": "3"},
        [reading("tokens", 3, 1), reading("requests", 2)],
    ),
    "nothing of the sort": ({"date": formatdate(WALL), "content-type": "application/json"}, []),
    "nothing": ({}, []),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect(dialect: str) -> None:
    headers, expected = DIALECTS[dialect]
    found = limits_of(headers, wall=WALL)
    assert [one.what for one in found] == [one.what for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert (one.window, one.limit, one.remaining) == (other.window, other.limit, other.remaining)
        assert one.reset_in == (None if other.reset_in is None else pytest.approx(other.reset_in))


@pytest.mark.parametrize(
    "name",
    [
        "x-ratelimit-limit-concurrent-requests",
        "x-ratelimit-limit-images",
        "x-ratelimit-limit-tokens-per-request",
        "x-ratelimit-limit-limit",
        "x-ratelimit-limit-",
        "x-ratelimit-",
        "ratelimit-",
        "x-ratelimit",
        "x-ratelimit-tokens-query-cost",
        "x-ratelimit-over-limit",
        "x-ratelimit-policy",
        "x-ratelimit-requests",
        "acme-ratelimit-unified-5h-remaining",
        "xratelimit-limit-requests",
        "x-ratelimitbysize-limit-minute",
        "x-rates-limit-requests",
        "retry-after",
    ],
)
def test_names_of_something_else(name: str) -> None:
    assert limits_of({name: "5"}, wall=WALL) == ()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("20ms", 0.02),
        ("2m59.56s", 179.56),
        ("7.66s", 7.66),
        ("1h2m3s", 3723.0),
        ("1d2h", 93600.0),
        ("150us", 0.00015),
        ("150\u00b5s", 0.00015),
        ("5ns", 5e-9),
        ("0s", 0.0),
        (" 10 ", 10.0),
        ("0.25", 0.25),
        (stamp(WALL + 30), 30.0),
        (stamp(WALL + 30.5), 30.5),
        (stamp(WALL + 30).lower(), 30.0),
        ("2023-11-14T23:13:50.000000001+01:00", 30.0),
        ("2023-11-14T22:13:50", 30.0),
        (formatdate(WALL + 30, usegmt=True), 30.0),
        (str(int(WALL) + 30), 30.0),
        (str(WALL + 30.5), 30.5),
        (str(int(WALL + 30) * 1000), 30.0),
    ],
)
def test_resets(text: str, seconds: float) -> None:
    assert reset_of(text) == pytest.approx(seconds, rel=1e-9)


@pytest.mark.parametrize(
    "text",
    ["", " ", "-", "-1", "-5s", "nan", "inf", "-inf", "soon", "1 s", "1x", "s", "1s!", "1.s", "s1", "99999d", "9" * 400,
     "9" * 9, "1e300", stamp(WALL - 1), formatdate(WALL - 1), str(WALL - 1), "9999-12-31T23:59:59Z",
     "0001-01-01T00:00:00+23:59", "2023-13-45T99:99:99Z", "Mon, 99 Foo 99999 99:99:99 +9999", "\ud800", "1s" * 10**5],
)  # fmt: skip
def test_resets_that_say_nothing(text: str) -> None:
    assert reset_of(text) is None


@pytest.mark.parametrize("skew", [-HOUR, HOUR])
@pytest.mark.parametrize(
    "write", [stamp, lambda moment: formatdate(moment, usegmt=True), str, lambda moment: str(int(moment * 1000))]
)
def test_moments_count_from_the_date_of_the_reply(skew: float, write: object) -> None:
    assert callable(write)
    assert reset_of(write(WALL + skew + 30), date=formatdate(WALL + skew, usegmt=True)) == 30.0


def test_a_duration_does_not_depend_on_a_clock() -> None:
    assert reset_of("30s", date=formatdate(WALL + HOUR), wall=0.0) == 30.0


@pytest.mark.parametrize("date", ["yesterday", "", None])
def test_without_a_readable_date_moments_count_from_the_wall_clock(date: str | None) -> None:
    assert reset_of(stamp(WALL + 30), date=date) == 30.0


@pytest.mark.parametrize("wall", [math.nan, math.inf, -math.inf])
def test_a_broken_wall_clock_makes_moments_unknown(wall: float) -> None:
    assert reset_of(stamp(WALL + 30), wall=wall) is None


@pytest.mark.parametrize(
    ("text", "limit", "remaining"),
    [
        ("5", 5, 5), (" 5 ", 5, 5), ("5.5", 5.5, 5.5), ("150,000", 150000, 150000), ("1,234,567", 1234567, 1234567),
        ("0", None, 0), ("-1", None, None), ("nan", None, None), ("inf", None, None), ("-inf", None, None),
        ("", None, None), ("many", None, None), ("1e300", None, None), ("9" * 400, None, None), ("0x10", None, None),
        (",", None, None), (";", None, None), (";w=60", None, None), ("5;", 5, 5),
    ],
)  # fmt: skip
def test_amounts(text: str, limit: float | None, remaining: float | None) -> None:
    # A server that gives no usable limit does not know what is left either, so all of it is dropped.
    told = limits_of({"x-ratelimit-limit": text, "x-ratelimit-remaining": "1"}, wall=WALL)
    assert [one.limit for one in told] == ([None] if not text else [] if limit is None else [limit])
    assert limits_of({"x-ratelimit-limit": "9", "x-ratelimit-remaining": text}, wall=WALL)[0].remaining == remaining


@pytest.mark.parametrize("limit", ["", "-1", "0"])
def test_a_reading_of_nothing_is_dropped(limit: str) -> None:
    assert limits_of({"x-ratelimit-reset-tokens": "5s"}, wall=WALL) == ()
    assert limits_of(triple("tokens", limit, "-1", "5s"), wall=WALL) == ()


def test_more_remaining_than_the_limit_is_kept() -> None:
    assert limits_of(triple("tokens", 5, 9, "1s"), wall=WALL) == (reading("tokens", 5, 9, 1),)


@pytest.mark.parametrize(
    ("limit", "remaining", "reset", "window"),
    [
        (10, 0, "", 60.0),
        (10, 0, "60s", 60.0),
        (10, 0, "61s", 60.0),
        (10, 5, "30m", HOUR),
        (100, 90, "28m", HOUR),
        (100, 90, "30m", DAY),
        (1000, 999, "86.4s", DAY),
        (10, 0, "2h", 7200.0),
        (10, 0, "5h", DAY),
        (10, 0, "48h", 2 * DAY),
        (10, 10, "61s", 60.0),
        (10, 10, "121s", HOUR),
        (10, 10, "1h", HOUR),
        (10, 10, "61m", DAY),
        (10, 99, "61m", DAY),
        ("", 5, "61m", DAY),
        (10, "", "61s", 60.0),
        (10, "", "121s", HOUR),
    ],
)
def test_the_window_that_no_name_says(limit: object, remaining: object, reset: str, window: float) -> None:
    (found,) = limits_of(triple("requests", limit, remaining, reset), wall=WALL)
    assert found.window == window


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("100;w=30", 30.0),
        ("100; w=30", 30.0),
        ("100;burst=5;w=30", 30.0),
        ("100;window=30", 30.0),
        ("100,100;w=30", 30.0),
        ("100, 50;w=30", 60.0),
        ("100;w=0", 60.0),
        ("100;w=-5", 60.0),
        ("100;w=1.5", 60.0),
        ("100;w=" + "9" * 9, 60.0),
        ("100;w=" + "9" * 99, 60.0),
        ("100;w=x", 60.0),
    ],
)
def test_the_window_in_the_value(text: str, window: float) -> None:
    assert limits_of({"ratelimit-limit": text}, wall=WALL) == (reading("requests", 100, window=window),)


def test_the_window_in_the_name_wins() -> None:
    headers = {"x-ratelimit-limit-requests-day": "100;w=30", "x-ratelimit-reset-requests-day": "5s"}
    assert limits_of(headers, wall=WALL) == (reading("requests", 100, None, 5, window=DAY),)


prefixes = st.sampled_from(["", "x-", "acme-", "a-b-"])
fields = st.sampled_from(["limit", "remaining", "reset"])
dimensions = st.sampled_from(
    ["", "requests", "tokens", "input-tokens", "output-tokens", "project-tokens", "tokens_usage_based", "tokens-prompt"]
)
windows = st.sampled_from(["", "second", "minute", "hour", "day", "month", "1h", "9999d", "0s"])


def name(prefix: str, field: str, dimension: str, window: str, last: bool) -> str:
    words = [dimension, window, field] if last else [field, dimension, window]
    return f"{prefix}ratelimit-" + "-".join(word for word in words if word)


names = st.builds(name, prefixes, fields, dimensions, windows, st.booleans()) | st.just("date")
moments = st.floats(-1e9, 4e9)
numbers = st.floats().map(str) | st.integers().map(str) | st.integers(0, 10**6).map(str)
durations = st.lists(
    st.builds("{}{}".format, st.decimals(0, 1000, places=2), st.sampled_from(["ms", "s", "m", "h", "d", "us"])),
    max_size=4,
).map("".join)
policies = st.builds("{};w={}".format, numbers, numbers)
values = (
    st.text(max_size=20)
    | st.text(st.characters(), max_size=20)
    | numbers
    | durations
    | policies
    | st.lists(policies | numbers, max_size=4).map(", ".join)
    | moments.map(formatdate)
    | moments.map(stamp)
    | st.datetimes().map(str)
    | st.datetimes(timezones=st.timezones()).map(datetime.isoformat)
)
# Drawing text is slow on a busy machine, which says nothing about the code under test.
patient = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)


@patient
@given(st.dictionaries(names | st.text(max_size=20).map("x-ratelimit-{}".format), values, max_size=12), st.floats())
def test_whatever_a_reply_says_no_reading_is_absurd(headers: dict[str, str], wall: float) -> None:
    for found in limits_of(headers, wall=wall):
        assert found.limit is not None or found.remaining is not None
        assert found.window is not None
        assert found.window > 0
        assert found.limit is None or found.limit > 0
        for value in (found.window, found.limit, found.remaining, found.reset_in):
            assert value is None or (value >= 0 and math.isfinite(value))
