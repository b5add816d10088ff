"""Fixtures every test may use."""

from __future__ import annotations

import os

import pytest

# Hundreds of tests start the program. Where Python is told to keep no bytecode, as many images for containers do, each
# of them would compile it anew, which takes longer than most runs.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.fixture
def anyio_backend() -> str:
    """The engine runs on asyncio: the limiter and the default HTTP client need it."""
    return "asyncio"
