"""Closing an engine: soon after its loop began, in the middle of a batch, and with a stranger on its port."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from promptmill_llama import LlamaProvider
from promptmill_llama.closing import wait_until_idle

AT_WORK = "# TYPE llamacpp:requests_processing gauge\nllamacpp:requests_processing 2\nllamacpp:requests_deferred 0\n"
IDLE = AT_WORK.replace("processing 2", "processing 0")


class Engine:
    """Gives one answer after the other."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)

    def handle_metrics(self) -> str:
        return self.answers.pop(0)


def test_an_engine_is_asked_until_it_is_idle() -> None:
    engine = Engine(AT_WORK, AT_WORK, IDLE, AT_WORK)
    wait_until_idle(engine)
    assert engine.answers == [AT_WORK]


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_real_engine_tells_whether_it_is_at_work(smollm: Path) -> None:
    provider = LlamaProvider(str(smollm), slots=2, context=512)
    provider.load()
    seen: list[str] = []

    def look(chunk: bytes) -> bool:
        seen.append(provider._server.handle_metrics())
        return True

    provider._server.handle_chat_completions(
        b'{"messages": [{"role": "user", "content": "Tell a long story."}], "max_tokens": 300, "stream": true}', look
    )
    assert "\nllamacpp:requests_processing 1\n" in seen[0]
    wait_until_idle(provider._server)
    assert "\nllamacpp:requests_processing 0\n" in provider._server.handle_metrics()
    provider.unload()


# What may hang with the GIL held runs in a process that can be killed.

ONE_PROCESSOR = """
import os
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
"""

BURN = "parent = os.getppid()\nwhile os.getppid() == parent: pass"


@pytest.fixture
def burners() -> Iterator[None]:
    """More to compute than there are processors: threads then begin late, which is what does the harm."""
    count = 2 if hasattr(os, "sched_setaffinity") else 2 * (os.cpu_count() or 1)
    running = [subprocess.Popen([sys.executable, "-c", ONE_PROCESSOR + BURN]) for _ in range(count)]
    yield
    for burner in running:
        burner.kill()
        burner.wait()


OFTEN = """
import faulthandler, sys
import anyio
from promptmill.models import Message, Request
from promptmill_llama import LlamaProvider

faulthandler.dump_traceback_later(float(sys.argv[3]), exit=True)

def story(number):
    content = f"Story {number}: " + "once upon a time " * (20 * (number % 2))
    return Request(id=str(number), messages=(Message("user", content),), params={"max_tokens": 300})

async def turn(number):
    provider = LlamaProvider(sys.argv[1], slots=4, context=512)
    with anyio.move_on_after(0 if number % 4 == 3 else 600):
        async with provider:
            if number % 4 == 1:
                with anyio.move_on_after(0.01 * (number % 30)):
                    async with anyio.create_task_group() as group:
                        for call in range(4):
                            group.start_soon(lambda call=call: provider.complete(story(call), timeout=60))
            elif number % 4 == 2:
                await provider.complete(Request(id="1", messages=(Message("user", "Hi"),), params={"max_tokens": 2}),
                                        timeout=600)

async def main():
    for number in range(int(sys.argv[2])):
        await turn(number)
        print(number, flush=True)

anyio.run(main)
"""
"""Opens and closes: at once, after calls given up, after an answer, and with the opening itself given up."""


@pytest.mark.slow
@pytest.mark.usefixtures("burners")
@pytest.mark.parametrize(
    ("turns", "seconds"),
    [
        pytest.param(5, 180, marks=pytest.mark.timeout(300)),
        pytest.param(200, 3600, marks=[pytest.mark.heavy, pytest.mark.timeout(4000)]),
    ],
)
def test_opening_and_closing_often_never_hangs(smollm: Path, turns: int, seconds: int) -> None:
    command = [sys.executable, "-c", ONE_PROCESSOR + OFTEN, str(smollm), str(turns), str(seconds)]
    done = subprocess.run(command, check=False, capture_output=True, encoding="utf-8", timeout=seconds + 60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == [str(number) for number in range(turns)]


STRANGER = """
import faulthandler, socket, sys
from urllib.parse import urlsplit
from promptmill_llama import LlamaProvider

faulthandler.dump_traceback_later(60, exit=True)
provider = LlamaProvider(sys.argv[1], slots=1, context=512)
provider.load()
address = urlsplit(provider._server.listening_address)
with socket.create_connection((address.hostname, address.port)) as stranger:
    stranger.sendall(b"GET /health HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
    assert stranger.recv(100)
    stranger.sendall(b"POST /v1/chat/completions HT")
    provider.unload()
"""


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_stranger_who_says_half_a_sentence_does_not_hold_up_the_end(smollm: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STRANGER, str(smollm)], check=False, capture_output=True, encoding="utf-8", timeout=90
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
