"""A run says what holds up its event loop, and only that."""

from __future__ import annotations

import signal
import sys
import time
from typing import Any

import pytest

pytestmark = pytest.mark.alone

BLOCKING = """\
import time

async def answer(request):
    if request.index % 10 == 5:
        time.sleep(0.2)
    return "x"
"""


def test_a_function_that_blocks_is_named_once(desk: Any) -> None:
    pytest.importorskip("promptmill_local")
    (desk.root / "blocking.py").write_text(BLOCKING)
    desk.prompts(30)
    desk.write(providers={"mine": {"use": "python", "target": "blocking:answer"}})
    done = desk.run("run", "job.yaml", "--quiet", "--allow-code")
    assert done.code == 0, done.err
    assert done.err.startswith("warning: the event loop stood still for ")
    assert done.err.count(" in answer (blocking.py:5); nothing else went on\n") == 1
    assert "    time.sleep(0.2)\n" in done.err


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX systems")
def test_a_run_that_is_stopped_and_continued_is_not_told_off(desk_for: Any, simulate: Any) -> None:
    desk = desk_for(simulate(answers="echo", latency="20ms").base_url)
    desk.prompts(400)
    desk.write()
    process = desk.start("run", "job.yaml", "--quiet")
    while not (desk.answers.exists() and desk.answers.stat().st_size):
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    for _ in range(3):
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.3)
        process.send_signal(signal.SIGCONT)
        time.sleep(0.05)
    _, err = process.communicate(timeout=40)
    assert (process.returncode, err) == (0, b"")
