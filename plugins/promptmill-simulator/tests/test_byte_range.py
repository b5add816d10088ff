from __future__ import annotations

import pytest

from promptmill_simulator.byte_range import Unsatisfiable, asked_span

ETAG = b'"it"'


@pytest.mark.parametrize(
    ("wanted", "span"),
    [
        (b"bytes=0-", (0, 10)),
        (b"bytes=4-", (4, 6)),
        (b"bytes=4-5", (4, 2)),
        (b"Bytes = 9 - 99", (9, 1)),
        (b"bytes=-3", (7, 3)),
        (b"bytes=-99", (0, 10)),
        (b"bytes=5-4", None),
        (b"bytes=-", None),
        (b"bytes=0-1,3-4", None),
        (b"lines=0-1", None),
        (b"bytes=x-", None),
        (None, None),
    ],
)
def test_parts(wanted: bytes | None, span: tuple[int, int] | None) -> None:
    assert asked_span(wanted, None, ETAG, 10) == span


@pytest.mark.parametrize("wanted", [b"bytes=10-", b"bytes=99-100", b"bytes=-0"])
def test_parts_that_are_not_there(wanted: bytes) -> None:
    with pytest.raises(Unsatisfiable):
        asked_span(wanted, None, ETAG, 10)


def test_nothing_of_an_empty_file_can_be_asked_for() -> None:
    with pytest.raises(Unsatisfiable):
        asked_span(b"bytes=0-", None, ETAG, 0)


def test_a_part_of_another_file_is_the_whole() -> None:
    assert asked_span(b"bytes=4-", ETAG, ETAG, 10) == (4, 6)
    assert asked_span(b"bytes=4-", b'"other"', ETAG, 10) is None
    assert asked_span(b"bytes=4-", b"Wed, 21 Oct 2015 07:28:00 GMT", ETAG, 10) is None
