"""Every exit code, from outside: what was asked, what came back, and whether anything was sent."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from promptmill.secrets import Secret

SUMMARY_KEYS = {
    "format_version",
    "run_id",
    "total",
    "succeeded",
    "failed",
    "skipped",
    "elapsed_s",
    "requests_per_s",
    "latency_s",
    "attempts",
    "cost_usd",
    "cost_all_realtime_usd",
    "saved_usd",
    "by_provider",
    "resumable",
}


def sent(sim: Any) -> int:
    return int(sim.ledger(0)["requests"])


def test_0_every_request_is_ok(desk: Any, sim: Any) -> None:
    desk.prompts(20)
    desk.write()
    done = desk.run("run", "job.yaml", "--json")
    assert done.code == 0, done.err
    assert set(done.summary) >= SUMMARY_KEYS
    assert (done.summary["total"], done.summary["succeeded"], done.summary["failed"]) == (20, 20, 0)
    assert done.summary["resumable"] is False
    assert [one["text"] for one in desk.records()] == [f"question {at}" for at in range(20)]
    assert "succeeded    20 of 20" in done.err
    assert sent(sim) == 20


def test_without_json_stdout_is_empty(desk: Any) -> None:
    desk.prompts(2)
    desk.write()
    done = desk.run("run", "job.yaml")
    assert (done.code, done.out) == (0, "")
    assert re.search(r"throughput +[\d.,]+ requests/s", done.err)


def test_quiet_says_nothing(desk: Any) -> None:
    desk.prompts(2)
    desk.write()
    assert desk.run("run", "job.yaml", "--quiet") == (0, "", "")
    assert len(desk.records()) == 2


def test_1_some_requests_failed(desk_for: Callable[[str], Any], simulate: Callable[..., Any]) -> None:
    sim = simulate(faults=["status=400,prompt=question 3"])
    desk = desk_for(sim.base_url)
    desk.prompts(5)
    desk.write()
    done = desk.run("run", "job.yaml", "--json")
    assert done.code == 1, done.err
    assert (done.summary["succeeded"], done.summary["failed"]) == (4, 1)
    assert [one["status"] for one in desk.records()] == ["ok", "ok", "ok", "failed", "ok"]
    failed = desk.records()[3]
    assert failed["text"] is None
    assert failed["error"]["http_status"] == 400
    assert "failed       1" in done.err


WRONG_JOBS: list[tuple[str, dict[str, Any], str]] = [
    ("an unknown key", {"ouput": "x.jsonl"}, "did you mean 'output'"),
    ("a key too few", {"providers": None}, "'providers' is missing"),
    ("an unknown provider type", {"providers": {"fast": {"use": "openai-chta", "model": "m"}}}, "openai-chat"),
    ("an unknown option", {"providers": {"fast": {"use": "openai-chat", "modle": "m"}}}, "did you mean 'model'"),
    ("an unknown condition", {"routes": [{"when": {"prompt_charz": 1}, "to": "fast"}]}, "prompt_chars"),
    ("a route to nobody", {"routes": [{"to": "slow"}]}, "'slow'"),
    ("a file that is not there", {"input": {"path": "nothing.jsonl"}}, "nothing.jsonl"),
    ("a template without its column", {"input": {"path": "prompts.jsonl", "prompt": "{{ nope }}"}}, "nope"),
    ("a template that is none", {"input": {"path": "prompts.jsonl", "prompt": "{{ prompt"}}, "prompt"),
    ("an absurd number", {"stop_when": {"failure_rate": 7}}, "failure_rate"),
    ("a budget of nothing", {"budget": {"usd": 0}}, "greater than 0"),
]


@pytest.mark.parametrize(("changes", "said"), [case[1:] for case in WRONG_JOBS], ids=[case[0] for case in WRONG_JOBS])
def test_2_a_wrong_job_sends_nothing(desk: Any, sim: Any, changes: dict[str, Any], said: str) -> None:
    desk.prompts(3)
    desk.write(**changes)
    done = desk.run("run", "job.yaml", "--json")
    assert (done.code, done.out) == (2, ""), done.err
    assert re.search(r"^error\[E\d{4}\]: ", done.err, re.MULTILINE)
    assert said in done.err
    assert "nothing was sent" in done.err
    assert "Traceback" not in done.err
    assert sent(sim) == 0
    assert not desk.answers.exists()


def test_2_bad_yaml_is_shown_in_its_place(desk: Any, sim: Any) -> None:
    desk.job.write_text("version: 1\ninput: {path: [\noutput: x\n")
    done = desk.run("run", "job.yaml")
    assert done.code == 2
    assert re.search(r"--> job.yaml:\d+:\d+\n", done.err)
    assert sent(sim) == 0


def test_2_a_job_that_is_not_there(desk: Any) -> None:
    done = desk.run("run", "nothing.yaml")
    assert done.code == 2
    assert "'nothing.yaml'" in done.err


def test_2_two_rows_with_one_id(desk: Any, sim: Any) -> None:
    desk.prompts([{"id": "a", "prompt": "1"}, {"id": "b", "prompt": "2"}, {"id": "a", "prompt": "3"}])
    desk.write()
    done = desk.run("run", "job.yaml")
    assert done.code == 2
    assert "the id 'a' of row 3 is that of row 1 too" in done.err
    assert sent(sim) == 0


def test_2_a_key_that_is_not_in_the_environment(desk: Any, sim: Any) -> None:
    desk.prompts(1)
    desk.write(provider={"api_key": "env:NOT_SET_ANYWHERE"})
    done = desk.run("run", "job.yaml")
    assert done.code == 2
    assert "NOT_SET_ANYWHERE" in done.err
    assert sent(sim) == 0


def test_2_a_key_written_into_the_job_is_not_repeated(desk: Any, sim: Any) -> None:
    desk.prompts(1)
    desk.write(provider={"api_key": desk.key})
    done = desk.run("run", "job.yaml")
    assert done.code == 2
    assert "env:" in done.err
    assert sent(sim) == 0


def test_2_code_needs_to_be_allowed(desk: Any) -> None:
    pytest.importorskip("promptmill_local")
    desk.prompts(1)
    (desk.root / "mine.py").write_text("open('ran', 'w')\ndef answer(request):\n    return 'x'\n")
    desk.write(providers={"mine": {"use": "python", "target": "mine:answer"}})
    done = desk.run("run", "job.yaml")
    assert done.code == 2
    assert "--allow-code" in done.err
    assert not (desk.root / "ran").exists()


@pytest.mark.parametrize(
    "arguments", [[], ["run"], ["run", "job.yaml", "--nope"], ["nope"], ["schema", "--draft", "4"]]
)
def test_2_wrong_usage(desk: Any, arguments: list[str]) -> None:
    done = desk.run(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err


def test_3_a_wrong_key(desk_for: Callable[[str], Any], simulate: Callable[..., Any]) -> None:
    sim = simulate(api_key=Secret("sk-another"))
    desk = desk_for(sim.base_url)
    desk.prompts(50)
    desk.write()
    started = time.monotonic()
    done = desk.run("run", "job.yaml", "--json")
    assert done.code == 3, done.err
    assert time.monotonic() - started < 10
    assert "refused the key" in done.err
    assert done.summary["succeeded"] == 0
    assert done.summary["resumable"] is True
    assert sent(sim) <= 8


def test_3_a_port_where_nobody_listens(desk_for: Callable[[str], Any]) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        desk = desk_for(f"http://127.0.0.1:{held.getsockname()[1]}/v1")
        desk.prompts(50)
        desk.write(retry={"use": "exponential", "attempts": 5, "base": "500ms", "cap": "30s"})
        started = time.monotonic()
        done = desk.run("run", "job.yaml", "--json")
    assert done.code == 3, done.err
    assert time.monotonic() - started < 15
    assert "cannot be reached" in done.err
    assert done.summary["resumable"] is True


def test_4_the_quota_is_used_up(desk_for: Callable[[str], Any], simulate: Callable[..., Any]) -> None:
    sim = simulate(faults=["status=429,code=insufficient_quota,type=insufficient_quota"])
    desk = desk_for(sim.base_url)
    desk.prompts(50)
    desk.write()
    done = desk.run("run", "job.yaml", "--json")
    assert done.code == 4, done.err
    assert "quota" in done.err
    assert done.summary["resumable"] is True
    assert sent(sim) <= 8


def test_5_too_many_failures(desk_for: Callable[[str], Any], simulate: Callable[..., Any]) -> None:
    sim = simulate(faults=["status=400"])
    desk = desk_for(sim.base_url)
    desk.prompts(200)
    desk.write(stop_when={"failure_rate": 0.5, "after": 10})
    done = desk.run("run", "job.yaml", "--json")
    assert done.code == 5, done.err
    assert "stop_when" in done.err
    assert 10 <= done.summary["failed"] < 100
    assert len(desk.records()) == done.summary["failed"]


def test_6_the_output_is_a_directory(desk: Any, sim: Any) -> None:
    desk.prompts(1)
    desk.answers.mkdir()
    desk.write()
    done = desk.run("run", "job.yaml")
    assert done.code == 6, done.err
    assert "answers.jsonl" in done.err
    assert sent(sim) == 0


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write anywhere")
def test_6_the_output_folder_is_read_only(desk: Any, sim: Any) -> None:
    desk.prompts(1)
    (desk.root / "out").mkdir(mode=0o500)
    desk.write(output="out/answers.jsonl")
    done = desk.run("run", "job.yaml")
    assert done.code == 6, done.err
    assert sent(sim) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of that kind")
def test_6_no_room_to_begin_with(desk: Any, sim: Any) -> None:
    import resource

    desk.prompts(5)
    desk.write()

    def no_file_over_200_kb() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    done = desk.run("run", "job.yaml", "--json", preexec_fn=no_file_over_200_kb)
    assert (done.code, done.out) == (6, ""), done.err
    assert "no room" in done.err
    assert sent(sim) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="limits of another process can be set on Linux only")
def test_6_the_disk_fills_up_on_the_way(desk_for: Callable[[str], Any], simulate: Callable[..., Any]) -> None:
    import resource

    sim = simulate(answer_tokens="1000", latency="20ms")
    desk = desk_for(sim.base_url)
    desk.prompts(2000)
    desk.write()
    process = desk.start("run", "job.yaml", "--json")
    while process.poll() is None and not (desk.answers.exists() and desk.answers.stat().st_size):
        time.sleep(0.01)
    full = desk.answers.stat().st_size + 100_000
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (full, full))
    out, err = process.communicate(timeout=40)
    assert process.returncode == 6, err.decode()
    assert b"Traceback" not in err
    assert out.count(b"\n") <= 1
    kept = desk.answers.read_bytes().split(b"\n")[:-1]
    assert {json.loads(line)["status"] for line in kept} == {"ok"}
    assert sent(sim) < 2000


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_6_stdout_is_full(desk: Any) -> None:
    desk.prompts(1)
    desk.write()
    with Path("/dev/full").open("wb") as full:
        done = desk.run("run", "job.yaml", "--json", stdout=full)
    assert done.code == 6, done.err
    assert "stdout" in done.err
    assert len(desk.records()) == 1


def test_70_a_bug_is_said_to_be_one(desk: Any) -> None:
    pytest.importorskip("promptmill_local")
    desk.prompts(100)
    (desk.root / "mine.py").write_text("def answer(request):\n    return 1 / 0\n")
    desk.write(providers={"mine": {"use": "python", "target": "mine:answer"}})
    done = desk.run("run", "job.yaml", "--allow-code", "--json")
    assert done.code == 70, done.err
    assert "ZeroDivisionError" in done.err
    assert done.summary["failed"] >= 20
