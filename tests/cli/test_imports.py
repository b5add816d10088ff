"""What starts quickly: nothing is imported before it is used, since imports are most of what a start takes."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

HEAVY = {
    "aiohttp",
    "anyio",
    "asyncio",
    "duckdb",
    "genai_prices",
    "httpx",
    "jinja2",
    "openai",
    "psycopg",
    "pyarrow",
    "pydantic",
    "rich",
    "ruamel.yaml",
    "sqlite3",
    "uvicorn",
    "uvloop",
    "xllamacpp",
}

NOT_OF_THIS_JOB = HEAVY - {"aiohttp", "anyio", "asyncio", "jinja2", "pydantic", "ruamel.yaml", "sqlite3", "uvloop"} | {
    "promptmill._plan",
    "promptmill.http._httpx",
    "promptmill.sinks.csv",
    "promptmill.sinks.sqlite",
    "promptmill.testing",
    "promptmill_llama",
    "promptmill_local",
    "promptmill_openai.batch",
    "promptmill_openai.embeddings",
    "promptmill_openai.responses",
    "promptmill_simulator",
    "pytest",
}
"""What no job needs that chats through one provider and writes lines, without being watched."""

PROGRAM = """\
import sys
from promptmill.cli.main import main
try:
    main()
except SystemExit as end:
    assert not end.code
finally:
    print("imported:", *sys.modules)
"""


def imported(program: str, *arguments: str, **options: Any) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        encoding="utf-8",
        check=True,
        **options,
    )
    return set(done.stdout.split("imported:")[1].split())


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"]], ids=" ".join)
def test_saying_what_there_is_imports_nothing_heavy(arguments: list[str]) -> None:
    found = imported(PROGRAM, *arguments)
    assert "promptmill.cli.main" in found
    by_typer = {"pydantic"} if arguments[0] == "run" else set()  # it reads the parameters of a command with it
    assert found & HEAVY <= by_typer


@pytest.mark.parametrize("package", ["promptmill", "promptmill_openai"])
def test_a_package_imports_nothing_heavy(package: str) -> None:
    pytest.importorskip(package)
    found = imported(f"import sys, {package}; print('imported:', *sys.modules)")
    assert package in found
    assert found & HEAVY == set()


def test_a_run_imports_what_its_job_names(desk: Any) -> None:
    desk.prompts(10)
    desk.write()
    found = imported(PROGRAM, "run", "job.yaml", "--quiet", cwd=desk.root, env=desk.env)
    assert {"aiohttp", "promptmill_openai.chat", "promptmill.sinks.jsonl"} <= found
    assert found & NOT_OF_THIS_JOB == set()
    assert len(json.loads(desk.answers.read_bytes().split(b"\n")[0])) > 1
