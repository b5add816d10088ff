"""Fixtures of the simulator's tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jsonschema
import openai
import pytest

from promptmill_simulator import Simulator, SimulatorOptions

DATA = Path(__file__).parent / "data"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def matches_schema() -> Callable[[str, Any], None]:
    """Checks a reply against a schema of the official API description, named like there."""
    components = json.loads((DATA / "openai-replies.json").read_text())["components"]
    validators: dict[str, jsonschema.Draft202012Validator] = {}

    def check(name: str, value: Any) -> None:
        if name not in validators:
            schema = {"$ref": f"#/components/schemas/{name}", "components": components}
            validators[name] = jsonschema.Draft202012Validator(schema)
        validators[name].validate(value)

    return check


@pytest.fixture(scope="module")
def simulate() -> Iterator[Callable[..., Simulator]]:
    """Starts simulators with these options; they stop at the end of the module."""
    started: list[Simulator] = []

    def start(**options: Any) -> Simulator:
        simulator = Simulator(SimulatorOptions.model_validate(options))
        simulator.start()
        started.append(simulator)
        return simulator

    yield start
    with ThreadPoolExecutor(16) as stoppers:
        list(stoppers.map(Simulator.stop, started))


@pytest.fixture(scope="module")
def client_of() -> Iterator[Callable[[Simulator], openai.OpenAI]]:
    """The official client, which checks every reply strictly and never retries."""
    with ExitStack() as stack:

        def client(simulator: Simulator, *, key: str = "sk-made-up", strict: bool = True) -> openai.OpenAI:
            made = openai.OpenAI(
                base_url=simulator.base_url,
                api_key=key,
                max_retries=0,
                timeout=10,
                _strict_response_validation=strict,
            )
            return stack.enter_context(made)

        yield client
