from __future__ import annotations

from email.utils import parsedate_to_datetime

import pytest

from promptmill_simulator.apierror import Headers
from promptmill_simulator.retry_after import parse_retry_after

WALL = 1_700_000_000.0


@pytest.mark.parametrize(
    ("text", "headers"),
    [
        ("none", []),
        ("5", [(b"retry-after", b"5")]),
        ("0.5", [(b"retry-after", b"0.5")]),
        ("-1", [(b"retry-after", b"-1")]),
        ("250ms", [(b"retry-after-ms", b"250")]),
        ("absurd", [(b"retry-after", b"315360000")]),
    ],
)
def test_forms(text: str, headers: Headers) -> None:
    assert parse_retry_after(text).headers(WALL) == headers


@pytest.mark.parametrize("offset", [5, -60])
def test_dates_are_relative_to_now(offset: int) -> None:
    [(name, value)] = parse_retry_after(f"date:{offset}").headers(WALL)
    assert name == b"retry-after"
    assert parsedate_to_datetime(value.decode()).timestamp() == WALL + offset


@pytest.mark.parametrize("text", ["soon", "date:", "1e99", "nan", "5 minutes"])
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_retry_after(text)


@pytest.mark.parametrize("text", ["none", "5", "0.5", "250ms", "date:-60"])
def test_text_form_is_kept(text: str) -> None:
    assert str(parse_retry_after(text)) == text
