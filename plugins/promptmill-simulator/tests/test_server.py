from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import httpx
import pytest

from promptmill.errors import StartError, UsageError
from promptmill_simulator import Answer, Simulator, SimulatorOptions, Task
from promptmill_simulator.server import is_loopback

BODY: Any = {"model": "m", "messages": [{"role": "user", "content": "x"}]}


def options(**values: Any) -> SimulatorOptions:
    return SimulatorOptions.model_validate(values)


async def test_a_thousand_requests_at_once() -> None:
    async with Simulator(options(latency="300ms")) as sim:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def ask(number: int) -> str:
                body = {"model": "m", "messages": [{"role": "user", "content": f"q{number}"}]}
                async with session.post(f"{sim.base_url}/chat/completions", json=body) as reply:
                    return str((await reply.json())["choices"][0]["message"]["content"])

            answers = await asyncio.gather(*(ask(number) for number in range(1000)))
        books = sim.ledger(0)
    assert len(set(answers)) > 990
    assert (books["paid_calls"], books["paid_prompts"], books["paid_again"]) == (1000, 1000, 0)
    assert books["in_flight"] == 0


def test_stopping_does_not_wait_for_a_hanging_request() -> None:
    with Simulator(options(faults=["hang"])) as sim:
        ended = threading.Event()

        def ask() -> None:
            with pytest.raises(httpx.TransportError):
                httpx.post(f"{sim.base_url}/chat/completions", json=BODY, timeout=30)
            ended.set()

        asking = threading.Thread(target=ask)
        asking.start()
        while not sim.ledger(0)["paid_calls"]:
            pass
    asking.join(10)
    assert ended.is_set()


def test_it_can_be_started_again() -> None:
    sim = Simulator()
    for _ in range(2):
        with sim:
            assert httpx.post(f"{sim.base_url}/chat/completions", json=BODY).status_code == 200
            assert sim.ledger()["requests"] == 1


@pytest.mark.parametrize("use", [lambda sim: sim.base_url, lambda sim: sim.ledger(), lambda sim: sim.reset()])
def test_using_it_before_it_runs_says_so(use: Callable[[Simulator], object]) -> None:
    with pytest.raises(UsageError, match="not running"):
        use(Simulator())


def test_a_port_in_use_says_so() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match=f"port {port} of '127.0.0.1' cannot be used"):
            Simulator(options(port=port)).start()


def test_a_host_that_is_none_says_so() -> None:
    with pytest.raises(StartError, match="no address to listen on"):
        Simulator(options(host="no.such.host.invalid")).start()


def test_failing_to_start_is_told_to_who_starts() -> None:
    with pytest.raises(UsageError, match="no provider 'nobody' is installed"):
        Simulator(options(answers_from={"use": "nobody"})).start()


def test_own_answers_can_be_put_behind() -> None:
    class Shout:
        async def answer(self, task: Task, choice: int) -> Answer:
            return Answer(task.prompt.upper() + "!" * choice, "stop", task.input_tokens, 1)

    with Simulator(answers=Shout()) as sim:
        reply = httpx.post(f"{sim.base_url}/chat/completions", json={**BODY, "n": 2}).json()
    assert [choice["message"]["content"] for choice in reply["choices"]] == ["X", "X!"]


def test_a_bug_behind_the_simulator_is_told() -> None:
    class Broken:
        async def answer(self, task: Task, choice: int) -> Answer:
            raise RuntimeError("it broke")

    line = json.dumps({"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": BODY})
    with Simulator(options(speed=20_000), answers=Broken()) as sim:
        reply = httpx.post(f"{sim.base_url}/chat/completions", json=BODY)
        assert reply.status_code == 500
        assert reply.json()["error"]["message"] == "bug in the simulator: RuntimeError: it broke"
        upload = {"file": ("in.jsonl", line.encode())}
        file = httpx.post(f"{sim.base_url}/files", data={"purpose": "batch"}, files=upload).json()["id"]
        order = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        batch = httpx.post(f"{sim.base_url}/batches", json=order).json()
        while batch["status"] != "failed":
            time.sleep(0.01)
            batch = httpx.get(f"{sim.base_url}/batches/{batch['id']}").json()
    assert batch["errors"]["data"][0]["code"] == "simulator_bug"


def test_the_ledger_is_served(simulate: Callable[..., Simulator]) -> None:
    sim = simulate()
    httpx.post(f"{sim.base_url}/chat/completions", json=BODY)
    assert httpx.get(f"{sim.url}/_sim/ledger").json() == sim.ledger()
    assert httpx.get(f"{sim.url}/_sim/ledger?entries=0").json()["entries"] == []
    assert httpx.post(f"{sim.url}/_sim/reset").json() == {"reset": True}
    assert sim.ledger()["requests"] == 0
    assert httpx.get(f"{sim.url}/_sim/other").status_code == 404


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("a.b", False)],
)
def test_loopback_is_known(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
