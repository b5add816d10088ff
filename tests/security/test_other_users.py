"""Other users of the machine: what they can read, and what they can hold up."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="its files have no modes")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_the_state_is_private_whatever_the_umask(desk: Any, umask: int) -> None:
    desk.prompts(3)
    desk.write(name="night")
    assert desk.run("run", "job.yaml", umask=umask).code == 0
    state = desk.root / ".promptmill"
    found = [state, *state.rglob("*")]
    assert len(found) >= 5
    assert {mode(path) for path in found if path.is_dir()} == {0o700}
    assert {mode(path) for path in found if path.is_file()} == {0o600}


def test_files_are_private_from_the_moment_they_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from promptmill import files

    monkeypatch.setattr(os, "fchmod", lambda *_: pytest.fail("changed afterwards"))
    before = os.umask(0)
    try:
        files.DurableFile.open(tmp_path / ".promptmill" / "job" / "file").close()
    finally:
        os.umask(before)
    assert mode(tmp_path / ".promptmill") == mode(tmp_path / ".promptmill" / "job") == 0o700
    assert mode(tmp_path / ".promptmill" / "job" / "file") == 0o600


def test_a_folder_of_an_older_version_is_closed(desk: Any) -> None:
    desk.prompts(3)
    desk.write(name="night")
    (desk.root / ".promptmill" / "night" / "run").mkdir(parents=True)
    for path in (desk.root / ".promptmill", desk.root / ".promptmill" / "night"):
        path.chmod(0o775)
    assert desk.run("run", "job.yaml").code == 0
    assert mode(desk.root / ".promptmill") == mode(desk.root / ".promptmill" / "night") == 0o700


SINKS = [
    {"use": "jsonl", "path": "out.jsonl"},
    {"use": "csv", "path": "out.csv"},
    {"use": "sqlite", "path": "out.sqlite"},
    {"use": "duckdb", "path": "out.duckdb"},
    {"use": "parquet", "path": "out.parquet"},
]


@pytest.mark.parametrize(
    ("given", "umask", "expected"),
    [(0o600, 0o022, 0o600), (0o640, 0o002, 0o640), (0o644, 0o022, 0o644), (0o666, 0o077, 0o600)],
)
def test_outputs_are_open_to_no_more_people_than_the_input(desk: Any, given: int, umask: int, expected: int) -> None:
    desk.prompts(3).chmod(given)
    desk.write(output=None, sinks=SINKS)
    done = desk.run("run", "job.yaml", umask=umask)
    assert done.code == 0, done.err
    for form in ("jsonl", "csv", "batch-output"):
        assert desk.run("export", "job.yaml", "--format", form, "-o", f"out.export-{form}", umask=umask).code == 0
    made = [path for path in desk.root.rglob("out.*") if path.is_file()]
    made += list((desk.root / "out.parquet").iterdir())
    assert len(made) >= 8
    assert {path.name: mode(path) for path in made} == dict.fromkeys((path.name for path in made), expected)


def test_the_one_who_is_let_in_least_decides(desk: Any) -> None:
    desk.prompts(2, "a.jsonl").chmod(0o644)
    desk.prompts([{"id": "x", "prompt": "question"}], "b.jsonl").chmod(0o600)
    desk.write(input={"path": ["a.jsonl", "b.jsonl"]})
    assert desk.run("run", "job.yaml", umask=0o022).code == 0
    assert mode(desk.answers) == 0o600


HOLD = """
import fcntl, os, sys, time
os.setuid(int(sys.argv[2]))
file = open(sys.argv[1])
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""


def hold(desk: Any, path: Path, user: int) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path), str(user)], stdout=subprocess.PIPE)
    desk.started.append(process)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


linux = pytest.mark.skipif(sys.platform != "linux", reason="no /proc/locks")


@linux
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize(("modes", "code"), [(0o644, 0), (0o666, 7)])
def test_a_lock_of_somebody_who_may_only_read(desk: Any, tmp_path_factory: Any, modes: int, code: int) -> None:
    for folder in (desk.root, *desk.root.parents):
        if folder.stat().st_uid == 0 and folder != Path("/"):
            folder.chmod(mode(folder) | 0o055)
    desk.prompts(3)
    desk.write()
    desk.answers.write_bytes(b"")
    desk.answers.chmod(modes)
    holder = hold(desk, desk.answers, 12345)
    done = desk.run("run", "job.yaml")
    assert done.code == code, done.err
    if code:
        assert f"process {holder.pid} (" in done.err
        assert "of user 12345" in done.err
    else:
        assert len(desk.records()) == 3


@linux
def test_the_holder_of_the_run_is_named(desk: Any) -> None:
    desk.prompts(3)
    desk.write(name="night")
    assert desk.run("run", "job.yaml").code == 0
    holder = hold(desk, desk.root / ".promptmill" / "night" / "lock", os.geteuid())
    done = desk.run("run", "job.yaml")
    assert done.code == 7
    assert f"process {holder.pid} ({sys.executable}" in done.err
    assert json.loads(desk.run("status", "job.yaml", "--json").out)["state"] == "running"
