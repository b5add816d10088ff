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

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))  # where its scripts find each other

import available
import chart
import machine
import part_latency
import part_million
import part_startup
import processes
import servers
import tables
from jobs import LIMITS

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def needs(*names: str) -> pytest.MarkDecorator:
    """Skip what cannot be run here, with the reason that `make bench` gives."""
    reason = available.why_not(names)
    return pytest.mark.skipif(reason is not None, reason=str(reason))


CASES = [
    "bare",
    "article",
    "stream",
    "stream_httpx",
    pytest.param("openai_sdk", marks=needs("openai")),
    pytest.param("bare_pyreqwest", marks=needs("pyreqwest")),
    pytest.param("stream_pyreqwest", marks=needs("pyreqwest", "backend pyreqwest")),
]
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
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    reply = tmp_path_factory.mktemp("server") / "reply.json"
    reply.write_bytes(servers.reply())
    assert reply.stat().st_size == 769
    process = subprocess.Popen([sys.executable, str(BENCHMARKS / "plain_server.py"), str(port), str(reply), "{}"])
    try:
        for _ in range(200):
            with socket.socket() as knock:
                if knock.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        yield servers.Server("plain_server.py", port)
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def url(server: servers.Server) -> str:
    return server.url(20)


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


@needs("wrk")
def test_wrk_is_measured_beside(url: str) -> None:
    code = f"import wrk, json; print(json.dumps(wrk.measure({url!r}, 4, 1, None)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=BENCHMARKS, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["errors"] == 0
    assert found["p50_s"] >= 0.02


def test_the_least_client_asks_at_a_rate(url: str) -> None:
    asked = ("--rate", 100, "--url", url, "--requests", 20, "--concurrency", 8, "--loop", "asyncio")
    found = figures("case_paced.py", *asked)
    assert found["wall_s"] >= 0.19
    assert found["p50_s"] >= 0.02


def test_waiting_and_connections_and_memory_are_measured(server: servers.Server) -> None:
    million = part_million._million(200, None)
    assert [one["requests"] for one in million["samples"]] == list(range(20, 201, 20))
    assert million["peak_mib"] >= million["samples"][0]["rss_mib"] > 10
    many = part_million._connections(server, 20, 50, 0, None)
    assert many["requests"] == 50
    assert many["rate"] > 0
    assert "all 50 requests answered" in part_million.connected("20", many)


def test_start_up_is_measured() -> None:
    alone = part_startup._seconds([sys.executable, "-c", "pass"], None)
    assert 0 < alone < part_startup._to_first_request(part_startup.PROGRAM, None)


def test_the_latency_of_every_call_is_measured(url: str) -> None:
    rate, latencies = part_latency._job(url, 8, 20, LIMITS, "asyncio", None)
    assert rate > 0
    assert len(latencies) == 20
    assert 0.02 <= latencies[0] <= latencies[-1]


def test_a_case_that_cannot_be_run_says_why() -> None:
    assert available.missing("no_such_package") == "no_such_package is not installed (pip install no_such_package)"
    assert available.missing("backend none") == "this promptmill has no HTTP backend 'none'"
    assert available.missing("backend aiohttp") is None
    assert available.why_not(("json", "no_such_package")) == available.missing("no_such_package")


def test_a_program_that_fails_is_no_figure() -> None:
    with pytest.raises(processes.CaseFailed, match="no answers"):
        processes.run_command([sys.executable, "-c", "raise SystemExit('no answers')"])


def test_the_machine_is_described() -> None:
    described = machine.described()
    assert described["commit"]
    assert "aiohttp" in described["versions"]  # type: ignore[operator]
    assert len(machine.lines(described)) == 3


def test_peers_are_scripts_with_pinned_versions() -> None:
    sys.path.append(str(BENCHMARKS / "peers"))
    import peers

    assert all("==" in package for peer in peers.PEERS for package in peer.packages)
    assert all((BENCHMARKS / "peers" / f"case_{peer.name}.py").is_file() for peer in peers.PEERS)


def test_the_chart_of_the_docs_is_that_of_the_published_figures() -> None:
    assert chart.PICTURE.read_text("utf-8") == chart.svg(chart.load(chart.PUBLISHED))


def test_the_tables_of_the_docs_are_those_of_the_published_figures() -> None:
    page = BENCHMARKS.parent / "docs" / "explanation" / "speed.md"
    text = page.read_text("utf-8")
    assert text.count("<!-- begin ") == len(tables.TABLES)
    assert tables.page_with(text, chart.load(chart.PUBLISHED)) == text, "run `python benchmarks/tables.py --into` it"
