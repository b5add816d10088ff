"""Connections and the limit on open files."""

from __future__ import annotations

import sys

import pytest

from promptmill._descriptors import most_connections

if sys.platform == "win32":
    pytest.skip("there is no such limit", allow_module_level=True)

import resource


@pytest.mark.parametrize(
    ("limit", "connections"),
    [(64, 16), (128, 64), (1024, 960), (2, 1), (resource.RLIM_INFINITY, None)],
)
def test_the_limit_leaves_room_for_everything_else(
    limit: int, connections: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert most_connections() == connections
