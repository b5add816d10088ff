"""The real program with a disk that fails or fills up, and without file descriptors to spare."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="needs signals and limits of POSIX"),
    pytest.mark.timeout(300),
]

STRACE = shutil.which("strace")


def can_trace() -> bool:
    """Whether strace is here and may trace: containers often forbid it."""
    return STRACE is not None and subprocess.run([STRACE, "-qq", "true"], capture_output=True).returncode == 0


needs_strace = pytest.mark.skipif(not can_trace(), reason="needs strace, and leave to use it")


def injecting(calls: str, error: str, when: str) -> list[str]:
    """A command line before the program's that makes system calls fail. strace counts them in each thread."""
    assert STRACE is not None
    what = ["-e", f"trace={calls}", "-e", f"inject={calls}:error={error}:when={when}"]
    return [STRACE, "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", *what]


@needs_strace
@pytest.mark.parametrize("when", [1, 3, 5, 9])
def test_a_failed_sync_stops_the_run_and_loses_nothing(make_world: Any, when: int) -> None:
    """Every sync from the n-th on fails, in the journal or in a sink: exit 6; the next start has all that was paid."""
    world = make_world(rows=60, concurrency=4)
    code, err, _ = world.run(prefix=injecting("fsync,fdatasync", "EIO", f"{when}+"))
    assert code == 6, err
    assert "Traceback" not in err
    world.check_kept()
    code, err, _ = world.run()
    assert code == 0, err
    world.check_finished(kills=0)


@needs_strace
@pytest.mark.parametrize("when", [3])
def test_one_failed_sync_is_as_bad_as_many(make_world: Any, when: int) -> None:
    """The kernel reports an error once; the sync after it may say that all is well."""
    world = make_world(rows=60, concurrency=4)
    code, err, _ = world.run(prefix=injecting("fsync,fdatasync", "EIO", str(when)))
    # A sink is written again from the journal, so only a failure of the journal's own sync has to end the run.
    assert code in (0, 6), err
    code, err, _ = world.run()
    assert code == 0, err
    world.check_finished(kills=0)


@needs_strace
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_writes_that_fail_lose_nothing(make_world: Any, error: str) -> None:
    """SQLite writes with pwrite64."""
    world = make_world(rows=60, concurrency=4)
    code, err, _ = world.run(prefix=injecting("pwrite64", error, "12+"))
    assert code == 6, err
    code, err, _ = world.run()
    assert code == 0, err
    world.check_finished(kills=0)


DISK = """
set -e
mount -t tmpfs -o size={size}k tmpfs {disk}
cp -r {job}/. {disk}
cd {disk}
set +e
{program} run job.yaml --json -q 2> {job}/first.err; echo $? > {job}/first.code
df -k . > {job}/df
{program} run job.yaml --json -q 2> {job}/second.err; echo $? > {job}/second.code
mount -o remount,size=100m {disk}
{program} run job.yaml --json -q 2> {job}/third.err; echo $? > {job}/third.code
cp -r {disk}/. {job}
"""


def can_mount() -> bool:
    command = ["unshare", "-m", "true"]
    return shutil.which("unshare") is not None and subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.skipif(sys.platform != "linux" or not can_mount(), reason="needs leave to mount a small disk")
@pytest.mark.parametrize("size", [2500])
def test_a_full_disk_stops_the_run_until_there_is_room(make_world: Any, tmp_path: Path, size: int) -> None:
    world = make_world(rows=3000, concurrency=16)
    disk = tmp_path / "disk"
    disk.mkdir()
    program = f"{shlex.quote(sys.executable)} -c 'from promptmill.cli.main import main; main()'"
    script = DISK.format(size=size, disk=disk, job=world.root, program=program)
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    told = {name: (world.root / f"{name}.err").read_text() for name in ("first", "second", "third")}
    codes = [int((world.root / f"{name}.code").read_text()) for name in told]
    assert codes == [6, 6, 0], told
    assert "Traceback" not in "".join(told.values())
    world.check_finished(kills=0)


def test_no_room_for_the_ballast_sends_nothing(make_world: Any) -> None:
    """A limit on the size of files stands in for the disk, where nobody may mount one."""
    import resource

    world = make_world(rows=20, concurrency=4)
    limit = 256 * 1024
    code, err, _ = world.run(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    assert code == 6
    assert "error[E0642]" in err
    assert "nothing was sent" in err
    assert world.books.ledger()["requests"] == 0
    code, err, _ = world.run()
    assert code == 0, err
    world.check_finished(kills=0)


def test_few_file_descriptors_slow_the_run_but_do_not_kill_it(make_world: Any) -> None:
    import resource

    world = make_world(rows=600, concurrency=200)
    code, err, summary = world.run(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)))
    assert code == 0, err
    assert summary["succeeded"] == 600
    world.check_finished(kills=0)


def test_a_deleted_journal_is_not_begun_anew_over_its_results(make_world: Any) -> None:
    world = make_world(rows=20, concurrency=4)
    assert world.run()[0] == 0
    before = [path.read_bytes() for path in world.outputs]
    requests = world.books.ledger()["requests"]
    shutil.rmtree(world.state)
    code, err, _ = world.run()
    assert code == 6
    assert "error[E0610]" in err
    assert "--fresh" in err
    assert [path.read_bytes() for path in world.outputs] == before
    assert world.books.ledger()["requests"] == requests
    assert world.run("--fresh")[0] == 0
    assert sorted(record["id"] for record in world.records()) == sorted(f"r{at}" for at in range(20))
    assert [Path(f"{path}.1").read_bytes() for path in world.outputs] == before


@pytest.mark.parametrize("how", ["text", "cut", "zeros"])
def test_a_damaged_journal_is_named(make_world: Any, how: str) -> None:
    world = make_world(rows=20, concurrency=4)
    assert world.run()[0] == 0
    requests = world.books.ledger()["requests"]
    journal = world.state / "run" / "journal.db"
    data = journal.read_bytes()
    spoiled = {"text": b"no database" * 5000, "cut": data[: len(data) // 2], "zeros": bytes(len(data))}
    journal.write_bytes(spoiled[how])
    code, err, _ = world.run()
    assert code == 6, err
    assert "error[E06" in err
    assert "Traceback" not in err
    assert world.books.ledger()["requests"] == requests
    assert json.loads(world.outputs[0].read_bytes().split(b"\n")[0])
