"""Connections and the limit on open files."""

from __future__ import annotations

import os
import sys

import pytest

from promptmill._descriptors import MOST_FILES, allow_more, most_connections
from promptmill.errors import UsageError

if sys.platform == "win32":
    pytest.skip("there is no such limit", allow_module_level=True)

import resource


@pytest.mark.parametrize(
    ("limit", "connections"),
    [(64, 16), (128, 64), (1024, 960), (28, 4), (resource.RLIM_INFINITY, None)],
)
def test_the_limit_leaves_room_for_everything_else(
    limit: int, connections: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    monkeypatch.setattr(os, "listdir", lambda _: ["one"] * 20)
    assert most_connections() == connections


def test_a_limit_that_leaves_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (24, 24))
    monkeypatch.setattr(os, "listdir", lambda _: ["one"] * 20)
    with pytest.raises(UsageError, match="24 files") as caught:
        most_connections()
    assert (caught.value.code, caught.value.exit_code) == ("E0117", 2)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((1024, 4096), (4096, 4096)),
        ((256, resource.RLIM_INFINITY), (MOST_FILES, resource.RLIM_INFINITY)),
        ((1024, 1_000_000), (MOST_FILES, 1_000_000)),
        ((100_000, 1_000_000), None),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), None),
    ],
)
def test_as_many_files_may_be_opened_as_anybody_may(
    before: tuple[int, int], after: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: before)
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
    allow_more()
    assert asked == ([] if after is None else [after])


def test_a_system_that_refuses_is_let_be(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    allow_more()
    assert most_connections() == 192
