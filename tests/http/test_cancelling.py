"""A request may be cancelled at any moment: its connection is closed, and no other request gets its answer."""

from __future__ import annotations

import asyncio
import time

import anyio
import pytest

from promptmill.errors import Transient
from promptmill.http import HttpClient
from promptmill.testing.badserver import Answer, BadServer, Hang, Pause, Received, Send, http_reply


def echo(received: Received) -> Answer:
    return [Pause(0.05), Send(http_reply(received.body))]


async def post(client: HttpClient, server: BadServer, body: bytes = b"{}") -> bytes:
    return (await client.post(server.url, headers={}, body=body, timeout=30)).body


HALF = http_reply(b"[1, 2, 3]")[:-4]


@pytest.mark.parametrize("answer", [[Hang()], [Send(HALF), Hang()]], ids=["before the reply", "in the body"])
async def test_the_server_sees_the_connection_closed(client: HttpClient, answer: Answer) -> None:
    async with BadServer([answer, http_reply()]) as server:
        before = asyncio.all_tasks()
        task = asyncio.create_task(post(client, server))
        await server.wait_for(lambda server: len(server.requests) == 1)
        # The reply's first half is on its way at most a moment later.
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.wait_for(lambda server: server.hung_up == 1)
        ours = {one for one in asyncio.all_tasks() - before if "BadServer" not in repr(one)}
        assert ours == set()
        assert await post(client, server) == b"{}"
        assert [received.connection for received in server.requests] == [0, 1]


async def test_a_cancel_scope_of_anyio(client: HttpClient) -> None:
    async with BadServer([[Hang()], http_reply()]) as server:
        with anyio.move_on_after(0.1) as scope:
            await post(client, server)
        assert scope.cancelled_caught
        await server.wait_for(lambda server: server.hung_up == 1)
        assert await post(client, server) == b"{}"


async def test_a_timeout_of_asyncio(client: HttpClient) -> None:
    async with BadServer([[Hang()], http_reply()]) as server:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await post(client, server)
        assert await post(client, server) == b"{}"


async def test_our_timeout_inside_a_scope_that_lives_on(client: HttpClient) -> None:
    async with BadServer([[Hang()], http_reply()]) as server:
        with anyio.fail_after(5):
            with pytest.raises(Transient, match="did not answer in time"):
                await client.post(server.url, headers={}, body=b"{}", timeout=0.1)
            assert await post(client, server) == b"{}"


async def test_half_of_many_cancelled_and_no_crossed_answers(opened) -> None:
    client = await opened(connections=64)
    async with BadServer(echo) as server:
        answers: dict[int, bytes] = {}

        async def ask(number: int) -> None:
            answers[number] = await post(client, server, str(number).encode())

        async with anyio.create_task_group() as all_of_them, anyio.create_task_group() as doomed:
            for number in range(100):
                doomed.start_soon(ask, number)
                all_of_them.start_soon(ask, 100 + number)
            await server.wait_for(lambda server: len(server.requests) >= 40)
            doomed.cancel_scope.cancel()
        assert set(range(100, 200)) <= set(answers)

        async with anyio.create_task_group() as again:
            for number in range(200, 400):
                again.start_soon(ask, number)
        assert all(answers[number] == str(number).encode() for number in answers)
        assert set(range(100, 400)) <= set(answers)


async def test_cancelled_while_connecting(opened) -> None:
    client = await opened()
    async with BadServer(greeting=[Hang()]) as server:
        for pause in (0.0, 0.001, 0.002, 0.004):
            with anyio.move_on_after(pause):
                await post(client, server)
        await server.wait_for(lambda server: server.hung_up == server.connections)


async def test_cancelled_before_it_begins(client: HttpClient) -> None:
    async with BadServer([http_reply()]) as server:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await post(client, server)
        assert scope.cancelled_caught
        assert server.requests == []


@pytest.mark.parametrize("scope_seconds", [0.09, 0.1, 0.11])
async def test_its_own_timeout_together_with_somebody_elses(client: HttpClient, scope_seconds: float) -> None:
    """Both come due while the event loop is held up, so both cancel the task in one turn of it. Nobody's cancellation
    gets lost, and none is left behind."""
    task = asyncio.current_task()
    assert task is not None
    async with BadServer([[Hang()], [Hang()], http_reply()]) as server:
        for _ in range(2):
            asyncio.get_running_loop().call_later(0.05, time.sleep, 0.1)
            failure: Exception | None = None
            with anyio.move_on_after(scope_seconds) as scope:
                try:
                    await client.post(server.url, headers={}, body=b"{}", timeout=0.1)
                except Transient as error:
                    failure = error
            assert scope.cancelled_caught or (failure is not None and failure.code == "timeout")
            assert task.cancelling() == 0
        assert await post(client, server) == b"{}"
