"""Fixtures of the simulator's tests."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
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
    """Starts simulators with these options, and perhaps a clock that answers; they stop at the end of the module."""
    started: list[Simulator] = []

    def start(clock: Any = None, **options: Any) -> Simulator:
        simulator = Simulator(SimulatorOptions.model_validate(options), answers=clock, clock=clock)
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


class Desk:
    """Hands batches of chat questions to a simulator with the official client, and looks at what comes of them."""

    url: Any = "/v1/chat/completions"

    def __init__(self, sim: Simulator, client: openai.OpenAI) -> None:
        self.sim = sim
        self.client = client

    def lines(self, count: int, **body: Any) -> str:
        """Questions with the custom_ids r-0, r-1 and so on."""
        return "".join(
            json.dumps(
                {
                    "custom_id": f"r-{number}",
                    "method": "POST",
                    "url": self.url,
                    "body": {"model": "m", "messages": [{"role": "user", "content": f"q r-{number}"}], **body},
                }
            )
            + "\n"
            for number in range(count)
        )

    def create(self, count: int = 10, **fields: Any) -> Any:
        return self.create_from(self.lines(count), **fields)

    def create_from(self, content: str, **fields: Any) -> Any:
        file = self.client.files.create(file=("in.jsonl", content.encode()), purpose="batch")
        return self.client.batches.create(input_file_id=file.id, endpoint=self.url, completion_window="24h", **fields)

    def wait(self, batch: Any, until: Callable[[Any], bool] | None = None) -> Any:
        """Poll until the batch has ended, or ``until`` holds."""
        reached = until or (lambda seen: seen.status in ("completed", "failed", "expired", "cancelled"))
        for _ in range(2000):
            batch = self.client.batches.retrieve(batch.id)
            if reached(batch):
                return batch
            time.sleep(0.005)
        raise AssertionError(f"the batch stays {batch.status}")

    def run(self, count: int = 10, **fields: Any) -> Any:
        return self.wait(self.create(count, **fields))

    def read(self, file_id: str | None) -> list[dict[str, Any]]:
        """The lines of a file; none when there is no file."""
        if not file_id:
            return []
        return [json.loads(text) for text in self.client.files.content(file_id).text.split("\n") if text]

    def raw(self, batch: Any) -> httpx.Response:
        return httpx.get(f"{self.sim.base_url}/batches/{batch.id}")


@pytest.fixture
def desk(simulate: Callable[..., Simulator], client_of: Callable[..., openai.OpenAI]) -> Callable[..., Desk]:
    """A desk at a simulator with these scripts, in their text form, and options; its batches take some 20 ms."""

    def at(*scripts: str, strict: bool = True, **options: Any) -> Desk:
        quick = {"speed": 100_000, "batch": {"in_progress": 600, "window": "30d"}}
        sim = simulate(**{**quick, "scripts": scripts, **options})
        return Desk(sim, client_of(sim, strict=strict))

    return at
