"""``promptmill.run``: from a script, a thread, a running loop, and under interrupts."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import promptmill
from promptmill.errors import InputError, JobError, RunStopped

pytest.importorskip("promptmill_local")

SOURCE = """
import time
from pathlib import Path

HERE = Path(__file__).parent

def answer(request):
    with open(HERE / "sent", "a") as sent:
        sent.write(request.id + "\\n")
    while (HERE / "hold").exists():
        time.sleep(0.005)
    return request.messages[0].text
"""


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., Path]:
    """Writes a job that a Python function answers; each call is noted in ``sent``, and waits for ``hold`` to go."""

    def write(rows: int = 3, **changes: Any) -> Path:
        module = f"answers_{abs(hash(tmp_path))}"
        (tmp_path / f"{module}.py").write_text(SOURCE)
        lines = [json.dumps({"id": f"q{at}", "prompt": f"question {at}"}) + "\n" for at in range(rows)]
        (tmp_path / "prompts.jsonl").write_text("".join(lines))
        spec = {
            "version": 1,
            "input": {"path": "prompts.jsonl"},
            "providers": {"mine": {"use": "python", "target": f"{module}:answer", "slots": 4}},
            "output": "answers.jsonl",
            **changes,
        }
        path = tmp_path / "job.yaml"
        path.write_text(json.dumps(spec))
        return path

    return write


def written(job: Path) -> list[str]:
    """The ids of the answers that are written."""
    lines = job.with_name("answers.jsonl").read_bytes().split(b"\n")
    assert lines.pop() == b""
    return [json.loads(line)["id"] for line in lines]


def sent(job: Path) -> int:
    path = job.with_name("sent")
    return path.read_text().count("\n") if path.exists() else 0


def check(summary: promptmill.Summary, path: Path) -> None:
    assert (summary.total, summary.succeeded, summary.failed) == (3, 3, 0)
    assert sorted(written(path)) == ["q0", "q1", "q2"]


@pytest.mark.parametrize("kind", [str, Path])
def test_from_a_script(job: Callable[..., Path], kind: type) -> None:
    path = job()
    check(promptmill.run(kind(path), allow_code=True), path)


async def test_inside_a_running_loop(job: Callable[..., Path]) -> None:
    path = job()
    check(promptmill.run(path, allow_code=True), path)
    assert asyncio.get_running_loop().is_running()


def test_from_a_thread(job: Callable[..., Path]) -> None:
    path = job()
    found: list[promptmill.Summary] = []
    thread = threading.Thread(target=lambda: found.append(promptmill.run(path, allow_code=True)))
    thread.start()
    thread.join(30)
    check(found[0], path)


def test_a_wrong_job_sends_nothing(job: Callable[..., Path]) -> None:
    path = job(ouput="x")
    with pytest.raises(JobError, match="ouput") as caught:
        promptmill.run(path, allow_code=True)
    assert caught.value.exit_code == 2
    assert sent(path) == 0


def test_a_wrong_input_sends_nothing(job: Callable[..., Path]) -> None:
    path = job(input={"path": "prompts.jsonl", "prompt": "{{ nope }}"})
    with pytest.raises(InputError):
        promptmill.run(path, allow_code=True)
    assert sent(path) == 0


def test_code_needs_to_be_allowed(job: Callable[..., Path]) -> None:
    path = job()
    with pytest.raises(promptmill.PromptmillError, match="runs code that the job file names") as caught:
        promptmill.run(path)
    assert caught.value.exit_code == 2
    assert sent(path) == 0


def test_an_early_end_is_raised(job: Callable[..., Path]) -> None:
    path = job(rows=50, stop_when={"failure_rate": 0.1, "after": 5}, retry={"use": "exponential", "attempts": 1})
    next(path.parent.glob("answers_*.py")).write_text("def answer(request):\n    return 1 / 0\n")
    with pytest.raises(RunStopped) as caught:
        promptmill.run(path, allow_code=True)
    assert caught.value.exit_code == 5


INTERRUPTED = """
import sys, promptmill
try:
    promptmill.run("job.yaml", allow_code=True)
except promptmill.RunStopped as stopped:
    print("stopped", stopped.exit_code)
except KeyboardInterrupt:
    print("interrupted")
else:
    print("finished")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX systems")
class TestInterrupts:
    @pytest.fixture(autouse=True)
    def processes(self) -> Iterator[None]:
        self.started: list[subprocess.Popen[bytes]] = []
        yield
        for process in self.started:
            with process:
                process.kill()

    def start(self, path: Path) -> Any:
        pipe = subprocess.PIPE
        command = [sys.executable, "-c", INTERRUPTED]
        process = subprocess.Popen(command, cwd=path.parent, stdin=pipe, stdout=pipe, stderr=pipe)
        self.started.append(process)
        return process

    def wait_until(self, condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
        for _ in range(4000):
            if condition():
                return
            assert process.poll() is None, process.communicate()
            threading.Event().wait(0.005)
        raise AssertionError("it did not come to that within 20 s")

    def test_the_first_one_lets_calls_finish(self, job: Callable[..., Path]) -> None:
        path = job(rows=100)
        hold = path.with_name("hold")
        hold.touch()
        process = self.start(path)
        self.wait_until(lambda: sent(path) == 4, process)
        process.send_signal(signal.SIGINT)
        threading.Event().wait(0.2)
        hold.unlink()
        out, err = process.communicate(timeout=20)
        assert (out, err) == (b"stopped 130\n", b"")
        assert len(written(path)) == sent(path) < 20

    def test_one_while_the_input_is_read(self, job: Callable[..., Path]) -> None:
        """The run has not begun, and must not begin later behind the caller's back."""
        path = job(input={"path": "-"})
        process = self.start(path)
        process.stdin.write(b"\n" * 1_000_000)  # more than a pipe holds: once it is gone, somebody reads
        process.stdin.flush()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(b'{"prompt": "x"}\n', timeout=20)
        assert (out, err) == (b"interrupted\n", b"")
        assert sent(path) == 0
