"""Every operation of a run as the last one before a kill or a power cut."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

from promptmill.errors import StorageError

POWER_CUTS = int(os.environ.get("PROMPTMILL_POWER_CUTS", "6"))
"""States of a power cut that are tried for each operation."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180 + 60 * POWER_CUTS)]


async def test_a_kill_after_any_operation(lab: Any) -> None:
    life = lab.new()
    await life.run()
    assert {op[0] for op in life.disk.ops} >= {"create", "write", "sync", "unlink", "image"}
    for cut in range(len(life.disk.ops) + 1):
        assert await lab.violations(life, cut) == [], f"cut {cut}: {life.disk.ops[cut - 1][:3]}"


async def test_a_power_cut_after_any_operation(lab: Any) -> None:
    life = lab.new()
    await life.run()
    chance = random.Random(20)
    for cut in range(len(life.disk.ops) + 1):
        for _ in range(POWER_CUTS):
            assert await lab.violations(life, cut, chance) == [], f"cut {cut}: {life.disk.ops[cut - 1][:3]}"


@pytest.mark.parametrize("power_cut", [False, True])
async def test_a_crash_while_recovering_from_a_crash(lab: Any, power_cut: bool) -> None:
    """From each third state, each second operation of the next life; its promises are those of both lives."""
    life = lab.new()
    await life.run()
    chance = random.Random(21)
    for first in range(chance.randrange(3), len(life.disk.ops), 17):
        second = lab.after(life, first)
        await second.run()
        earlier = frozenset(lab.noted(life, "received", first))
        for cut in range(second.born, len(second.disk.ops), 2):
            # What the first life received is in its tail, synced or not: a kill came first.
            broken = await lab.violations(second, cut, chance if power_cut else None, earlier)
            assert broken == [], f"{first} then {cut}: {second.disk.ops[cut - 1][:3]}"


@pytest.mark.parametrize("unfinished", [False, True])
async def test_a_kill_while_starting_over(lab: Any, unfinished: bool) -> None:
    """The old run and its output are there or set aside, never mixed with the new one."""
    life = lab.new()
    await life.run()
    ends = len(life.disk.ops)
    cut_first = next(at for at in range(ends // 2, ends) if life.disk.ops[at][0] == "image") if unfinished else ends
    fresh = lab.after(life, cut_first)
    old = (fresh.root / "out.jsonl").read_bytes()
    await fresh.run(fresh=True)
    assert lab.wrong_output(fresh) == []
    for cut in range(fresh.born, len(fresh.disk.ops) + 1):
        after = lab.after(fresh, cut)
        if await refused(after):
            after = lab.after(after, len(after.disk.ops))
            await after.run(fresh=True)
        assert lab.wrong_output(after) == []
        kept = [path.read_bytes() for path in after.root.glob("out.jsonl*")]
        assert any(data.startswith(old) for data in kept), f"cut {cut}: the old output is gone"


async def refused(life: Any) -> bool:
    """Whether the run does not go on because its journal is set aside and its output is not yet."""
    code = None
    try:
        await life.run()
    except StorageError as error:
        code = error.code
    assert code in (None, "E0610")
    return code is not None
