from __future__ import annotations

import signal
import subprocess
import sys
from importlib.metadata import entry_points

import httpx
import pytest
import typer
from typer.testing import CliRunner

from promptmill.errors import UsageError
from promptmill.hookspecs import ENTRY_POINT_GROUP
from promptmill_simulator import RateLimits, SimulatorOptions, parse_batch
from promptmill_simulator.command import register_command, simulate

RUN = "import typer; from promptmill_simulator.command import simulate; typer.run(simulate)"


@pytest.fixture
def app() -> typer.Typer:
    made = typer.Typer()
    made.command()(simulate)
    return made


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no way to send Ctrl-C to one process")
def test_it_serves_until_interrupted() -> None:
    command = [sys.executable, "-c", RUN, "--port", "0", "--rpm", "100", "--answers", "echo", "--api-key", "sk-x"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        base_url = process.stdout.readline().strip()
        assert base_url.startswith("http://127.0.0.1:")
        assert base_url.endswith("/v1")
        body = {"model": "m", "messages": [{"role": "user", "content": "so it is"}]}
        reply = httpx.post(f"{base_url}/chat/completions", json=body, headers={"authorization": "Bearer sk-x"})
        assert reply.json()["choices"][0]["message"]["content"] == "so it is"
        assert reply.headers["x-ratelimit-limit-requests"] == "100"
        assert httpx.get(f"{base_url}/models").status_code == 401
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stderr.read() == ""


def test_its_options_reach_the_simulator(monkeypatch: pytest.MonkeyPatch, app: typer.Typer) -> None:
    served: list[SimulatorOptions] = []
    monkeypatch.setattr("promptmill_simulator.command._serve", served.append)
    arguments = ["--batch", "nth=1,ending=expired", "--batch", "first=1,nulls", "--enqueued-tokens", "5"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    [options] = served
    assert options.scripts == (parse_batch("nth=1,ending=expired"), parse_batch("first=1,nulls"))
    assert options.enqueued_tokens == 5


def test_its_limits_reach_the_simulator(monkeypatch: pytest.MonkeyPatch, app: typer.Typer) -> None:
    served: list[SimulatorOptions] = []
    monkeypatch.setattr("promptmill_simulator.command._serve", served.append)
    silent = ["--limit-kind", "window", "--charging", "settle", "--no-limit-headers", "--no-retry-after"]
    for arguments in ([], ["--rpm", "5", *silent]):
        assert CliRunner().invoke(app, arguments).exit_code == 0
    assert [options.limits for options in served] == [
        RateLimits.model_validate({}),
        RateLimits.model_validate(
            {"rpm": 5, "kind": "window", "charging": "settle", "headers": False, "retry_after": False}
        ),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "can be reached from other machines"),
        (["--fault", "explode"], "faults.0"),
        (["--fault", "rate=1"], "has no kind"),
        (["--batch", "nth=0"], "scripts.0.nth"),
        (["--batch", "errors=2"], "scripts.0.lines.errors"),
        (["--enqueued-tokens", "0"], "enqueued_tokens"),
        (["--latency", "soon"], "a duration is"),
        (["--answers", "songs"], "answers"),
        (["--tokens", "0"], "1 to 100000 tokens"),
        (["--rpm", "-1"], "limits.rpm"),
        (["--limit-kind", "hour"], "limits.kind"),
        (["--answers-from", "x", "--answers-option", "y"], "no KEY=VALUE"),
        (["--answers-from", "nobody", "--answers-option", "n=1", "--port", "0"], "no provider 'nobody'"),
    ],
)
def test_what_cannot_be_is_told(app: typer.Typer, arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, UsageError)
    assert message in str(result.exception)


def test_the_command_is_registered() -> None:
    offered: dict[str, object] = {}
    register_command(offered.__setitem__)
    assert offered == {"simulate": simulate}
    entries = entry_points(group=ENTRY_POINT_GROUP, name="command.simulate")
    assert {entry.value for entry in entries} == {"promptmill_simulator.command"}


def test_reading_the_command_imports_no_server() -> None:
    code = "import promptmill_simulator.command, sys; print('uvicorn' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
