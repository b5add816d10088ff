"""Fixtures of this plugin's tests."""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from promptmill_llama import KNOWN, fetch_model, models_dir


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def smollm() -> Path:
    """The weights of the small model, fetched once and then kept in the user's cache as for any other use."""
    return fetch_model(KNOWN["smollm2-135m"], models_dir())


@pytest.fixture(scope="session")
def real_stderr(pytestconfig: pytest.Config) -> Iterator[int]:
    """A descriptor of stderr as it is without pytest's capturing."""
    capturing = pytestconfig.pluginmanager.getplugin("capturemanager")
    assert capturing is not None
    with capturing.global_and_fixture_disabled():
        descriptor = os.dup(2)
    yield descriptor
    os.close(descriptor)


@pytest.fixture(autouse=True)
def watchdog(request: pytest.FixtureRequest, real_stderr: int) -> Iterator[None]:
    """End the test run, with the stacks of all threads, when a test hangs in native code that holds the GIL.

    Both methods of pytest-timeout run Python code, which takes the GIL. Where they work, they come first.
    """
    mark = request.node.get_closest_marker("timeout")
    seconds = float(mark.args[0] if mark else request.config.getini("timeout"))
    faulthandler.dump_traceback_later(1.5 * seconds, exit=True, file=real_stderr)
    yield
    faulthandler.cancel_dump_traceback_later()
