"""Fixtures of this plugin's tests."""

from __future__ import annotations

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
