"""Taking turns: never two at once, nobody forgotten, and no queue where there is nothing to wait for."""

from __future__ import annotations

import random

import anyio
import pytest
from anyio.lowlevel import checkpoint

from promptmill._turn import Turn


async def take(turn: Turn) -> None:
    if turn.taken:
        await turn.wait()
    assert not turn.taken
    turn.taken = True


async def test_it_is_free_for_whoever_comes_before_the_one_that_was_woken() -> None:
    turn = Turn()
    order: list[str] = []

    async def waiter() -> None:
        await take(turn)
        order.append("woken")
        turn.leave()

    await take(turn)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waiter)
        await checkpoint()
        turn.leave()
        for _ in range(3):
            assert not turn.taken
            await take(turn)
            order.append("came by")
            turn.leave()
    assert order == ["came by"] * 3 + ["woken"]


@pytest.mark.parametrize("seed", range(30))
async def test_never_two_and_nobody_is_forgotten_whoever_is_cancelled(seed: int) -> None:
    chance = random.Random(seed)
    turn = Turn()
    inside = 0
    finished = 0

    async def work(rounds: int) -> None:
        nonlocal inside, finished
        for _ in range(rounds):
            await take(turn)
            try:
                inside += 1
                assert inside == 1
                for _ in range(chance.choice([0, 0, 1, 3])):
                    await checkpoint()
            finally:
                inside -= 1
                turn.leave()
            for _ in range(chance.choice([0, 1, 2])):
                await checkpoint()
        finished += 1

    async def doomed() -> None:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as pair:
                pair.start_soon(work, 1000)
                for _ in range(chance.randrange(20)):
                    await checkpoint()
                scope.cancel()

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(work, 20)
                tasks.start_soon(doomed)
    assert finished == 8
    assert not turn.taken
