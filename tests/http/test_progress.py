"""The rule of the least progress, without a clock."""

from __future__ import annotations

import math
from typing import Any

import anyio
import pytest
from pydantic import ValidationError

from promptmill.errors import Transient
from promptmill.http import HttpSettings
from promptmill.http._progress import Progress

URL = "https://api.example/v1/chat?key=hush"


def progress(**settings: Any) -> Progress:
    return Progress(HttpSettings(**settings), URL)


def stalls_after(watched: Progress, *, every: float, size: int = 1, most: int = 10_000) -> float | None:
    """Seconds after which a drip of ``size`` bytes ``every`` so many seconds is given up."""
    total = 0.0
    for _ in range(most):
        if watched.patience < every:
            return total + watched.patience
        total += every
        watched.take(b"x" * size, every)
    return None


def test_the_defaults() -> None:
    settings = HttpSettings()
    assert (settings.idle_timeout, settings.progress_window, settings.least_bytes_per_second) == (60.0, 120.0, 1.0)


@pytest.mark.parametrize("name", ["idle_timeout", "progress_window", "least_bytes_per_second"])
@pytest.mark.parametrize("value", [-1, math.nan, math.inf, 0])
def test_settings_that_would_fail_every_reply_or_none_are_refused(name: str, value: float) -> None:
    if (name, value) == ("least_bytes_per_second", 0):
        assert HttpSettings.model_validate({name: value}).least_bytes_per_second == 0
        return
    with pytest.raises(ValidationError):
        HttpSettings.model_validate({name: value})


@pytest.mark.parametrize("blanks", [b"\n", b" \r\n\t" * 100, b""])
def test_blanks_do_not_begin_it(blanks: bytes) -> None:
    watched = progress()
    for _ in range(100):
        watched.take(blanks, 50.0)
    assert watched.patience == math.inf
    watched.take(blanks + b"{", 1000.0)
    assert watched.patience == 60.0


def test_blanks_count_once_it_has_begun() -> None:
    watched = progress()
    watched.take(b"{")
    for _ in range(100):
        watched.take(b" " * 60, 50.0)
    assert watched.patience == 60.0


def test_silence() -> None:
    watched = progress()
    watched.take(b"x" * 1000)
    assert stalls_after(watched, every=60.1) == 60.0


@pytest.mark.parametrize("start", [b"x", b"x" * 119, b"x" * 120, b"x" * 1_000_000])
def test_a_drip_is_given_up_after_a_window_whatever_came_before(start: bytes) -> None:
    watched = progress()
    watched.take(start)
    after = stalls_after(watched, every=10.0)
    assert after is not None
    # A start just short of what a window needs is made up by the first drops, with which the next window begins.
    assert 120.0 <= after <= 130.0


@pytest.mark.parametrize(("every", "size"), [(0.9, 1), (10.0, 11), (59.0, 60), (0.001, 1)])
def test_what_is_slow_but_quick_enough_goes_on(every: float, size: int) -> None:
    watched = progress()
    watched.take(b"x")
    assert stalls_after(watched, every=every, size=size) is None


def test_without_a_least_rate_only_silence_counts() -> None:
    watched = progress(least_bytes_per_second=0.0, progress_window=1.0)
    watched.take(b"x")
    assert stalls_after(watched, every=59.0) is None
    assert watched.patience == 60.0


def test_only_waiting_counts() -> None:
    watched = progress()
    watched.take(b"x")
    watched.take(b"x", 100.0)
    assert watched.patience == pytest.approx(20.0)
    watched.take(b"x" * 118)
    assert watched.patience == 60.0


async def test_what_is_there_already_is_taken_even_when_the_time_is_up() -> None:
    async def there() -> bytes:
        return b"x" * 120

    watched = progress()
    watched.take(b"x")
    watched.take(b"x", 120.0)
    assert watched.patience <= 0
    assert await watched.read(there()) == b"x" * 120
    assert watched.patience == 60.0


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"idle_timeout": 0.01}, "nothing for 0.01 s"),
        ({"progress_window": 0.01, "least_bytes_per_second": 300.0}, "less than 3 bytes in 0.01 s"),
    ],
)
async def test_the_message(settings: dict[str, float], reason: str) -> None:
    async def never() -> bytes:
        await anyio.sleep_forever()
        raise AssertionError

    watched = progress(**settings)
    watched.take(b"{")
    with pytest.raises(Transient) as caught:
        await watched.read(never())
    assert caught.value.code == "stalled"
    assert caught.value.message == f"'https://api.example' stopped in the middle of its reply ({reason})"
