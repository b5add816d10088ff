"""The n-th operation fails, for n = 1, 2, 3 ... until the run gets through: SQLite's way to test itself."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest

from promptmill.errors import StorageError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

LEAST = 60
"""Operations a run has at least; a loop that ends before has looked at nothing."""


async def until_it_completes(lab: Any, fault_at: Callable[[int], Any], judge: Callable[[Any, Any], Any]) -> None:
    for number in range(1, 10_000):
        life = lab.new()
        life.disk.fault = fault_at(number)
        error = None
        try:
            await life.run()
        except (StorageError, lab.crash) as caught:
            error = caught
        if life.disk.count < number:
            assert number > LEAST
            assert error is None
            return
        await judge(life, error)
    raise AssertionError("the run never gets through")


async def test_a_crash_at_each_operation(lab: Any) -> None:
    async def judge(life: Any, error: Any) -> None:
        assert isinstance(error, lab.crash)
        assert await lab.violations(life, len(life.disk.ops)) == []

    await until_it_completes(lab, lab.crash_at, judge)


@pytest.mark.parametrize("once", [True, False], ids=["once", "from there on"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
async def test_the_disk_fails_at_each_operation(lab: Any, code: int, once: bool) -> None:
    async def judge(life: Any, error: Any) -> None:
        broken = await lab.violations(life, len(life.disk.ops))
        if not once:  # what cannot be written is not known to the next process, and counts as the worst
            broken = [one for one in broken if not one.startswith("too much spent")]
        named = error.message if error is not None and error.code == "E0645" else ""
        lost = [one for one in broken if f"'id-{one.removeprefix('paid again: ')}'" not in named]
        assert lost == [], (life.disk.count, error)

    await until_it_completes(lab, lambda number: lab.fail_at(number, code, once=once), judge)


async def test_a_short_write_at_each_operation(lab: Any) -> None:
    async def judge(life: Any, error: Any) -> None:
        assert error is None
        assert lab.wrong_output(life) == []
        assert await lab.violations(life, len(life.disk.ops)) == []

    await until_it_completes(lab, lab.short_at, judge)
