"""A test that hangs with the GIL held ends the test run instead of stalling it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HANGS = """
import ctypes
import pytest

@pytest.mark.timeout(1)
def test_that_hangs():
    c = ctypes.PyDLL(None)
    mutex = ctypes.create_string_buffer(256)
    c.pthread_mutex_init(mutex, None)
    c.pthread_mutex_lock(mutex)
    c.pthread_mutex_lock(mutex)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the hang is made of POSIX threads")
def test_a_hang_with_the_gil_held_ends_the_run_and_says_where(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_bytes(Path(__file__).with_name("conftest.py").read_bytes())
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_it.py").write_text(HANGS)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:anyio", str(tmp_path)]
    done = subprocess.run(command, check=False, capture_output=True, encoding="utf-8", cwd=tmp_path, timeout=45)
    assert done.returncode == 1
    assert "Timeout (0:00:01.500000)!" in done.stderr
    assert "in test_that_hangs" in done.stderr
