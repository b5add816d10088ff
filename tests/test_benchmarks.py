"""The benchmarks still run: each program of them once, small, against the server that needs nothing installed."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
CASES = ["bare", "article", "stream", "stream_httpx", "openai_sdk"]
ROWS = ["csv", "template", "check", "sink"]
ENGINE = ["stream", "limits", "journal"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="the benchmarks ask the system for what Windows does not count"),
]


def figures(script: str, *args: object) -> dict[str, Any]:
    command = [sys.executable, str(BENCHMARKS / script), *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    reply = tmp_path_factory.mktemp("server") / "reply.json"
    code = "import servers, sys; sys.stdout.buffer.write(servers.reply())"
    reply.write_bytes(
        subprocess.run([sys.executable, "-c", code], cwd=BENCHMARKS, capture_output=True, check=True).stdout
    )
    assert reply.stat().st_size == 769
    server = subprocess.Popen([sys.executable, str(BENCHMARKS / "plain_server.py"), str(port), str(reply), "{}"])
    try:
        for _ in range(200):
            with socket.socket() as knock:
                if knock.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}/20ms/v1"
    finally:
        server.terminate()
        server.wait()


@pytest.mark.parametrize("case", CASES)
def test_every_case_gets_its_answers(case: str, url: str) -> None:
    found = figures(f"case_{case}.py", "--url", url, "--requests", 8, "--concurrency", 4, "--loop", "asyncio")
    assert found["requests"] == 8
    assert found["cpu_s"] > 0
    assert found["p50_s"] >= 0.02
    assert found["wall_s"] >= found["p99_s"] >= found["p50_s"]


def test_a_case_that_does_not_get_its_answers_fails(url: str) -> None:
    nowhere = url.replace("/20ms/v1", "").rpartition(":")[0] + ":9/v1"
    args = ("--url", nowhere, "--requests", 2, "--concurrency", 1, "--loop", "asyncio")
    with pytest.raises(AssertionError):
        figures("case_article.py", *args)


@pytest.mark.parametrize(("script", "args"), [("part_engine.py", (mode, "asyncio", 300)) for mode in ENGINE])
def test_every_measurement_of_the_engine_runs(script: str, args: tuple[object, ...]) -> None:
    assert figures(script, *args)["each_us"] > 0


@pytest.mark.parametrize("mode", ROWS)
def test_every_measurement_of_rows_runs(mode: str) -> None:
    assert figures("part_rows.py", mode, 300)["rate"] > 0


@pytest.mark.parametrize("mode", ["build", "write-json", "collect", "read-json"])
def test_every_measurement_of_a_shard_runs(mode: str) -> None:
    assert figures("part_shard.py", mode, 700)["mb_per_s"] > 0


def test_urgent_questions_are_asked_beside_batches() -> None:
    found = figures("part_hybrid.py", 100, 2)
    assert found["ratio"] > 0
    assert found["saved_share"] > 0


def test_pacing_is_measured() -> None:
    assert figures("part_pacer.py", 300)["each_us"] > 0


def test_a_limit_that_nobody_was_told_is_found_out_without_a_loss() -> None:
    found = figures("part_limit.py", 200, 100)
    assert found["promptmill"]["lost"] == 0
    assert found["promptmill"]["wasted"] < found["script"]["wasted"]


def test_a_run_is_left_with_one_request_and_resumed() -> None:
    code = "import parts, json; print(json.dumps(parts._resume(None, 300)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=BENCHMARKS, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["rows"] == 300
    assert found["end_s"] > found["first_answer_s"] > 0
