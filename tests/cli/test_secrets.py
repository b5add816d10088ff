"""A key goes to its provider and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from promptmill.secrets import Secret


def everywhere(desk: Any, done: Any) -> bytes:
    """All that a run leaves behind: what it printed, and every file in its folder, the journal too."""
    files = [path.read_bytes() for path in desk.root.rglob("*") if path.is_file() and path != desk.job]
    assert any(b"question" in content for content in files)
    return b"".join([done.out.encode(), done.err.encode(), *files])


@pytest.mark.parametrize("source", ["env", "file"])
def test_a_key_that_is_accepted(desk_for: Callable[[str], Any], simulate: Callable[..., Any], source: str) -> None:
    desk = desk_for("")
    sim = simulate(answers="echo", api_key=Secret(desk.key))
    desk.base_url = sim.base_url
    desk.prompts(3)
    (desk.root / "key").write_text("") if source == "env" else (desk.root / "key").write_text(f"{desk.key}\n")
    desk.write(provider={"api_key": "env:DESK_KEY" if source == "env" else "file:key"})
    done = desk.run("run", "job.yaml", "--json")
    assert done.code == 0, done.err
    (desk.root / "key").unlink()
    assert desk.key.encode() not in everywhere(desk, done)


def test_a_key_that_is_refused(desk_for: Callable[[str], Any], simulate: Callable[..., Any]) -> None:
    sim = simulate(api_key=Secret("sk-another"))
    desk = desk_for(sim.base_url)
    desk.prompts(3)
    desk.write()
    done = desk.run("run", "job.yaml", "--json")
    assert done.code == 3
    assert desk.key.encode() not in everywhere(desk, done)


@pytest.mark.parametrize(("status", "code"), [(401, 3), (400, 1), (500, 1)])
def test_a_server_that_says_the_key_back(
    desk_for: Callable[[str], Any], simulate: Callable[..., Any], status: int, code: int
) -> None:
    desk = desk_for("")
    sim = simulate(faults=[{"kind": "status", "status": status, "message": f"your key {desk.key} is no good"}])
    desk.base_url = sim.base_url
    desk.prompts(3)
    desk.write()
    done = desk.run("run", "job.yaml", "--json")
    assert done.code == code, done.err
    assert desk.key.encode() not in everywhere(desk, done)


def test_a_key_in_the_job_is_refused_and_not_repeated(desk: Any) -> None:
    desk.prompts(3)
    desk.write(provider={"api_key": desk.key})
    done = desk.run("check", "job.yaml")
    assert done.code == 2
    # The line of the job file is not shown either: people paste errors into issues.
    assert desk.key not in done.err


def test_a_bug_does_not_print_the_environment(desk: Any) -> None:
    pytest.importorskip("promptmill_local")
    desk.prompts(25)
    source = "import os\ndef answer(request):\n    key = os.environ['DESK_KEY']\n    raise RuntimeError('oops')\n"
    (desk.root / "mine.py").write_text(source)
    desk.write(providers={"mine": {"use": "python", "target": "mine:answer"}})
    done = desk.run("run", "job.yaml", "--allow-code", "--json")
    assert done.code == 70
    assert desk.key.encode() not in everywhere(desk, done)
    assert json.loads(done.out)["failed"] >= 20
