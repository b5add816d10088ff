"""What strangers' text can do on a terminal, what a template can take, and what is left when a command is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

EVIL = "no\nerror[E9999]: forged\r\x1b[2J\u202egpj\u009b31m\u2028x"
RAW = ("\nerror[E9999]", "\r", "\x1b", "\u202e", "\u009b", "\u2028")


@pytest.mark.parametrize("status", [401, 403])
def test_text_of_a_server(desk_for: Callable[[str], Any], simulate: Callable[..., Any], status: int) -> None:
    sim = simulate(faults=[{"kind": "status", "status": status, "message": EVIL}])
    desk = desk_for(sim.base_url)
    desk.prompts(2)
    desk.write()
    done = desk.run("run", "job.yaml")
    assert "forged" in done.err
    assert [one for one in RAW if one in done.err] == []


@pytest.mark.skipif(sys.platform == "win32", reason="its file names have no control characters")
@pytest.mark.parametrize("command", ["check", "run", "status", "export"])
def test_names_of_files(desk: Any, command: str) -> None:
    name = f"evil{EVIL}".replace("/", "")
    (desk.root / name).mkdir()
    desk.write(input={"path": f"{name}/prompts.jsonl"})
    done = desk.run(command, desk.job)
    assert done.code == 2
    desk.job.rename(desk.root / name / "job.yaml")
    again = desk.run(command, f"{name}/job.yaml")
    assert again.code == 2
    for text in (done.err, done.out, again.err, again.out):
        assert [one for one in RAW if one in text] == []


def test_a_changed_job_is_told_line_by_line(desk: Any) -> None:
    desk.prompts(1)
    desk.write(params={"temperature": 0})
    assert desk.run("run", "job.yaml").code == 0
    desk.write(params={"temperature": 1, "seed": EVIL})
    done = desk.run("run", "job.yaml")
    assert "\n    params.temperature: 0 -> 1\n" in done.err
    assert [one for one in RAW if one in done.err] == []


HEX = "('f' * 4000000)|int(base=16)"
TEMPLATES = {
    "long division": f"{{{{ {HEX} // ({HEX} - 1) }}}}",
    "long remainder": f"{{{{ (({HEX}) // 7) % 3 }}}}",
    "long difference": f"{{{{ {HEX} - {HEX} }}}}",
    "long body of a loop": "{% for i in range(90000) %}" + "{% if i == 1 %}{% endif %}" * 20_000 + "{% endfor %}",
    "loops of long numbers": "{% for i in range(90000) %}" + "{% set x = 2 ** 4000 * 3 %}" * 2000 + "{% endfor %}",
    "a tower": "{{ (2 ** 4000) ** (2 ** 4000) }}",
}


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_a_template_does_not_hang_check(desk: Any, template: str) -> None:
    desk.prompts(1)
    desk.write(input={"path": "prompts.jsonl", "prompt": template})
    started = time.monotonic()
    done = desk.run("check", "job.yaml")
    assert (done.code, "error[E0310]" in done.err) == (2, True), done.err[:2000]
    assert time.monotonic() - started < 20


def test_arithmetic_of_common_sizes_works(desk: Any) -> None:
    desk.prompts([{"id": "a", "prompt": "x", "n": 17}])
    loop = "{% for i in range(1000) %}{% set x = i * 2 - 1 %}{% endfor %}"
    desk.write(
        input={"path": "prompts.jsonl", "prompt": "{{ n // 3 }} {{ n - 1 }} {{ n / 2 }} {{ 2 ** 100 % n }}" + loop}
    )
    assert desk.run("check", "job.yaml").code == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize(
    ("arguments", "code"), [(["run", "job.yaml"], 0), (["check", "gone.yaml"], 2), (["nosuch"], 2), (["run"], 2)]
)
def test_a_full_stderr_does_not_change_the_exit_code(desk: Any, arguments: list[str], code: int) -> None:
    desk.prompts(2)
    desk.write()
    with Path("/dev/full").open("wb") as full:
        assert desk.run(*arguments, stderr=full).code == code


@pytest.mark.skipif(sys.platform == "win32", reason="nothing is killed there like this")
@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet", "sqlite", "batch-output"])
def test_a_killed_export_leaves_nothing_under_its_name(desk: Any, form: str) -> None:
    desk.prompts(5)
    desk.write()
    assert desk.run("run", "job.yaml").code == 0
    out = desk.root / "out.result"
    script = (
        "import os, signal, sys\n"
        "from promptmill import _export\n"
        "rows = _export._rows\n"
        "def killed(directory):\n"
        "    for number, row in enumerate(rows(directory)):\n"
        "        if number == 3:\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "        yield row\n"
        "_export._rows, _export._ROWS = killed, 1\n"
        "from promptmill.cli.main import main\n"
        "main()\n"
    )
    command = [sys.executable, "-c", script, "export", "job.yaml", "-f", form, "-o", str(out)]
    done = subprocess.run(command, cwd=desk.root, env={**os.environ, **desk.env}, check=False, timeout=40)
    assert done.returncode == -signal.SIGKILL
    assert not out.exists()
    again = desk.run("export", "job.yaml", "-f", form, "-o", out)
    assert again.code == 0, again.err
    assert out.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such limit")
@pytest.mark.parametrize("limit", [16, 20, 22, 24, 26, 28, 32])
@pytest.mark.parametrize("sinks", [1, 4])
def test_few_open_files_are_enough_or_refused_at_once(desk: Any, sim: Any, limit: int, sinks: int) -> None:
    import resource

    desk.prompts(60)
    more = [{"use": "sqlite", "path": f"out{number}.sqlite"} for number in range(1, sinks)]
    desk.write(
        output=None, sinks=[{"use": "jsonl", "path": "answers.jsonl"}, *more], provider={"max_concurrency": None}
    )
    command = ["run", "job.yaml", "--json"]
    started = time.monotonic()
    done = desk.run(*command, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)))
    assert time.monotonic() - started < 15
    if done.code == 0:
        assert len(desk.records()) == 60
    else:
        assert done.code in (2, 6), done.err
        assert "error[E" in done.err
        assert sim.ledger()["requests"] == 0
