"""The command group ``models``."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from typer.testing import CliRunner

from promptmill import jsontext
from promptmill.errors import UsageError
from promptmill_llama import KNOWN
from promptmill_llama.commands import app, register_command


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("PROMPTMILL_MODELS_DIR", str(tmp_path))
    return tmp_path


def test_list_for_programs(cache: Path) -> None:
    done = CliRunner().invoke(app, ["list", "--json"])
    row = jsontext.decode(done.stdout)[0]
    assert (row["name"], row["fetched"], row["licence"]) == ("smollm2-135m", False, "Apache-2.0")
    assert Path(row["path"]).parent == cache


def test_list_for_people(cache: Path) -> None:
    assert "smollm2-135m  not fetched  98 MB  Apache-2.0" in CliRunner().invoke(app, ["list"]).stdout
    KNOWN["smollm2-135m"].path(cache).write_bytes(b"GGUF")
    assert "smollm2-135m  fetched  98 MB" in CliRunner().invoke(app, ["list"]).stdout


def test_path_prints_the_file_or_says_how_to_get_it(cache: Path) -> None:
    missing = CliRunner().invoke(app, ["path", "smollm2-135m"])
    assert isinstance(missing.exception, UsageError)
    assert missing.exception.code == "E0420"
    assert missing.stdout == ""
    path = KNOWN["smollm2-135m"].path(cache)
    path.write_bytes(b"GGUF")
    assert CliRunner().invoke(app, ["path", "smollm2-135m"]).stdout == f"{path}\n"


@pytest.mark.parametrize("command", ["fetch", "path"])
def test_an_unknown_model_is_a_usage_error(command: str) -> None:
    done = CliRunner().invoke(app, [command, "gpt"])
    assert isinstance(done.exception, UsageError)
    assert done.exception.code == "E0421"


@pytest.mark.slow
def test_fetch_prints_only_the_path_on_stdout(smollm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPTMILL_MODELS_DIR", str(smollm.parent))
    done = CliRunner().invoke(app, ["fetch", "smollm2-135m"])
    assert done.exit_code == 0
    assert done.stdout == f"{smollm}\n"
    assert "licence Apache-2.0" in done.stderr


def test_the_entry_point_registers_the_group() -> None:
    (point,) = [point for point in entry_points(group="promptmill") if point.name == "command.models"]
    names: dict[str, object] = {}
    register_command(names.__setitem__)
    assert point.load().register_command is register_command
    assert names == {"models": app}


def test_the_command_does_not_load_the_engine() -> None:
    code = "import sys, promptmill_llama.commands; sys.exit('xllamacpp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
