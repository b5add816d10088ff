"""A registry of small components, and a way to see what is said about a job file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from promptmill._config import Job, load_job
from promptmill._registry import Registry
from promptmill.cli.errors import lines_of
from promptmill.errors import JobError
from promptmill.interfaces import Condition, Provider, RetryPolicy, Sink, Source
from promptmill.models import Request
from promptmill.options import (
    BuildContext,
    ConditionOptions,
    Duration,
    ProviderOptions,
    RetryOptions,
    SecretRef,
    SinkOptions,
    SourceOptions,
)

Said = Callable[[str], str]


class Connection(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    proxy: str | None = None
    proxy_pass: SecretRef | None = None


def _web_address(value: str) -> str:
    if not value.startswith("http"):
        raise ValueError("not a web address")
    return value


class ChatOptions(ProviderOptions):
    model: str
    api_key: SecretRef | None = None
    pats: list[SecretRef] = Field(default_factory=list)
    base_url: Annotated[str, AfterValidator(_web_address)] = "http://localhost"
    connection: Connection = Connection()
    mode: Literal["fast", "slow"] = "fast"

    def build(self, context: BuildContext) -> Provider:
        return Provider()


class EchoOptions(ProviderOptions):
    delay: Duration = 0.0

    def build(self, context: BuildContext) -> Provider:
        return Provider()


class FileSourceOptions(SourceOptions):
    path: str | list[str]

    def build(self, context: BuildContext) -> Source:
        raise NotImplementedError


class TableSourceOptions(FileSourceOptions):
    delimiter: str = ","


class FileSinkOptions(SinkOptions):
    path: Path
    flush: bool = False
    schema_: str | None = Field(None, alias="schema")

    def build(self, context: BuildContext) -> Sink:
        raise NotImplementedError


class BackoffOptions(RetryOptions):
    attempts: int = Field(5, ge=1)
    base: Duration = 0.5

    def build(self, context: BuildContext) -> RetryPolicy:
        raise NotImplementedError


class Longer:
    def __init__(self, than: int) -> None:
        self.than = than

    def matches(self, request: Request) -> bool:
        return request.prompt_chars > self.than


class LongerOptions(ConditionOptions):
    shorthand = "than"

    than: int = Field(ge=0)

    def build(self, context: BuildContext) -> Condition:
        return Longer(self.than)


class TagOptions(ConditionOptions):
    name: str

    def build(self, context: BuildContext) -> Condition:
        return Longer(0)


@pytest.fixture
def registry() -> Registry:
    made = Registry([])
    made.add("provider", "chat", ChatOptions)
    made.add("provider", "echo", EchoOptions)
    made.add("source", "jsonl", FileSourceOptions)
    made.add("source", "csv", TableSourceOptions)
    made.add("sink", "jsonl", FileSinkOptions)
    made.add("policy", "exponential", BackoffOptions)
    made.add("condition", "longer", LongerOptions)
    made.add("condition", "tag", TagOptions)
    return made


@pytest.fixture
def load(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Job]:
    """Load the text of a job file; it is called job.yaml."""
    monkeypatch.chdir(tmp_path)

    def load(text: str) -> Job:
        path = Path("job.yaml")
        path.write_text(text, encoding="utf-8", newline="")
        return load_job(path, registry)

    return load


@pytest.fixture
def said(load: Callable[[str], Job]) -> Said:
    """What is said about a wrong job file, as the command line prints it."""

    def said(text: str) -> str:
        with pytest.raises(JobError) as caught:
            load(text)
        return "\n".join(line for problem in caught.value.problems for line in lines_of(problem))

    return said
