"""Names and paths of models, and where they are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from promptmill.errors import UsageError
from promptmill_llama import KNOWN, find_model, models_dir


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("PROMPTMILL_MODELS_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_missing_known_model_tells_the_command(empty_cache: Path) -> None:
    with pytest.raises(UsageError) as caught:
        find_model("smollm2-135m", Path())
    assert caught.value.code == "E0420"
    assert caught.value.hint == "fetch it with: promptmill models fetch smollm2-135m"
    assert str(empty_cache) in caught.value.message


def test_a_known_model_is_found_in_the_cache(empty_cache: Path) -> None:
    empty_cache.mkdir()
    path = KNOWN["smollm2-135m"].path(empty_cache)
    path.write_bytes(b"GGUF")
    assert find_model("smollm2-135m", Path("elsewhere")) == path


def test_a_path_is_relative_to_the_job(tmp_path: Path) -> None:
    (tmp_path / "mine.gguf").write_bytes(b"GGUF")
    assert find_model("mine.gguf", tmp_path) == tmp_path / "mine.gguf"
    with pytest.raises(UsageError) as caught:
        find_model("other.gguf", tmp_path)
    assert caught.value.code == "E0420"
    assert "fetch" not in str(caught.value.hint)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="'smollm3'") as caught:
        find_model("smollm3", Path())
    assert caught.value.code == "E0421"
    assert "smollm2-135m" in str(caught.value.hint)


def test_models_are_kept_in_the_users_cache_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROMPTMILL_MODELS_DIR")
    assert models_dir().name == "models"
    assert "promptmill" in models_dir().parts
