"""The JSON Schema of the job file: valid itself, and of one mind with the loader."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator, Draft202012Validator
from pydantic import BaseModel, ConfigDict

from promptmill._config import Job, job_schema, load_job
from promptmill._config.document import Document
from promptmill._config.schema import DRAFT_07, DRAFT_2020
from promptmill._registry import Registry
from promptmill.errors import JobError
from promptmill.interfaces import Provider
from promptmill.options import BuildContext, ProviderOptions

SCHEMAS = pytest.mark.parametrize(
    ("draft", "validator"), [(DRAFT_2020, Draft202012Validator), (DRAFT_07, Draft7Validator)], ids=["2020-12", "07"]
)

JOB = "version: 1\ninput: {path: in.jsonl}\n"
ONE = "providers: {fast: {use: echo}}\n"
OUT = "output: out.jsonl\n"

RIGHT = [
    JOB + ONE + OUT,
    JOB + ONE + "sinks: [{use: jsonl, path: x, flush: true, schema: s}]\n",
    "version: 1\nname: a.b-c_9\ninput: {path: [a, b], use: csv, delimiter: ';', id: x, prompt: '{{ q }}'}\n"
    + ONE
    + OUT,
    "version: 1\ninput: {path: a, messages: [{role: user, content: x}], priority: p, tags: [a], keep: [b]}\n"
    + ONE
    + OUT,
    JOB + OUT + "providers: {fast: {use: chat, model: m, api_key: 'env:A', pats: ['file:x'], timeout: 1m30s}}\n",
    JOB + OUT + "providers: {fast: {use: chat, model: m, connection: {proxy: p, proxy_pass: 'env:A'}, mode: slow}}\n",
    JOB + OUT + "providers: {fast: {use: echo, limits: {rpm: 5, tpm: 0.5}, max_concurrency: 3, delay: 0}}\n",
    JOB + OUT + "providers: {a: {use: echo}, b: {use: echo}}\nroutes: [{to: a, fallback: [b]}]\n",
    JOB + ONE + OUT + "routes: [{when: {longer: 5}, to: fast}, {when: {longer: {than: 5}}, to: fast}, {to: fast}]\n",
    JOB + ONE + OUT + "routes: [{when: {any: [{longer: 5}, {not: {tag: {name: x}}}]}, to: fast}, {to: fast}]\n",
    JOB + ONE + OUT + "retry: {attempts: 3}\norder: input\nstop_when: {failure_rate: 0.5}\n",
    JOB + ONE + OUT + "retry: {use: exponential, base: 500ms}\nparams: {a: {b: [1, null, x]}}\n",
    JOB + ONE + OUT + "budget: {usd: 20}\ndeadline: 6h\n",
    JOB + ONE + OUT + "budget: {usd: 0.5}\ndeadline: 0.5\n",
    JOB + ONE + OUT + "deadline: 0h 10m\nroutes: [{to: fast, budget: {usd: 5}, deadline: 2h}]\n",
    JOB + ONE + OUT + "deadline: '90'\nroutes: [{to: fast, budget: , deadline: }]\n",
    JOB + ONE + OUT + "retry:\nroutes:\nname:\nstop_when:\nbudget:\ndeadline:\n",
]

WRONG = [
    "[]\n",
    "version: 1\n",
    "version: 2\ninput: {path: in.jsonl}\n" + ONE + OUT,
    JOB + ONE,
    JOB + ONE + OUT + "sinks: [{use: jsonl, path: x}]\n",
    JOB + ONE + "sinks: []\n",
    JOB + ONE + "sinks: [{path: x}]\n",
    JOB + ONE + "sinks: [{use: parquet, path: x}]\n",
    JOB + ONE + "sinks: [{use: jsonl, path: x, schema_: s}]\n",
    JOB + ONE + OUT + "verzion: 1\n",
    JOB + ONE + OUT + "name: a b\n",
    JOB + ONE + OUT + "order: random\n",
    JOB + ONE + OUT + "params: [1]\n",
    JOB + ONE + OUT + "stop_when: {failure_rate: 2}\n",
    JOB + ONE + OUT + "stop_when: {after: 5}\n",
    JOB + ONE + OUT + "budget: {usd: 0}\n",
    JOB + ONE + OUT + "budget: {usd: -1}\n",
    JOB + ONE + OUT + "budget: {eur: 5}\n",
    JOB + ONE + OUT + "budget: {}\n",
    JOB + ONE + OUT + "budget: 5\n",
    JOB + ONE + OUT + "deadline: 0\n",
    JOB + ONE + OUT + "deadline: 0h\n",
    JOB + ONE + OUT + "deadline: 0.0\n",
    JOB + ONE + OUT + "deadline: soon\n",
    JOB + ONE + OUT + "routes: [{to: fast, budget: {usd: 0}}]\n",
    JOB + ONE + OUT + "routes: [{to: fast, budget: 5}]\n",
    JOB + ONE + OUT + "routes: [{to: fast, deadline: 0ms}]\n",
    JOB + ONE + OUT + "retry: {use: linear}\n",
    JOB + ONE + OUT + "retry: {attempts: 0}\n",
    JOB + ONE + OUT + "retry: {base: soon}\n",
    JOB + OUT + "providers: {}\n",
    JOB + OUT + "providers: {fast: echo}\n",
    JOB + OUT + "providers: {fast: {model: x}}\n",
    JOB + OUT + "providers: {fast: {use: ecco}}\n",
    JOB + OUT + "providers: {fast: {use: echo, x: 1}}\n",
    JOB + OUT + "providers: {fast: {use: echo, limits: {rmp: 1}}}\n",
    JOB + OUT + "providers: {fast: {use: echo, limits: {rpm: 0}}}\n",
    JOB + OUT + "providers: {fast: {use: echo, max_concurrency: 0}}\n",
    JOB + OUT + "providers: {fast: {use: echo, timeout: 5 minutes}}\n",
    JOB + OUT + "providers: {fast: {use: echo, timeout: -1}}\n",
    JOB + OUT + "providers: {fast: {use: chat}}\n",
    JOB + OUT + "providers: {fast: {use: chat, model: m, api_key: sk-1}}\n",
    JOB + OUT + "providers: {fast: {use: chat, model: m, pats: ['env:A-B']}}\n",
    JOB + OUT + "providers: {fast: {use: chat, model: m, mode: medium}}\n",
    JOB + OUT + "providers: {fast: {use: chat, model: m, connection: {proxi: p}}}\n",
    JOB + OUT + "providers: {a: {use: echo}, b: {use: echo}}\n",
    JOB + ONE + OUT + "routes: []\n",
    JOB + ONE + OUT + "routes: [{when: {longer: 5}}, {to: fast}]\n",
    JOB + ONE + OUT + "routes: [{when: {}, to: fast}, {to: fast}]\n",
    JOB + ONE + OUT + "routes: [{when: , to: fast}, {to: fast}]\n",
    JOB + ONE + OUT + "routes: [{when: {any: []}, to: fast}, {to: fast}]\n",
    JOB + ONE + OUT + "routes: [{when: {any: {longer: 5}}, to: fast}, {to: fast}]\n",
    JOB + ONE + OUT + "routes: [{when: {lnger: 5}, to: fast}, {to: fast}]\n",
    JOB + ONE + OUT + "routes: [{when: {longer: -5}, to: fast}, {to: fast}]\n",
    JOB + ONE + OUT + "routes: [{when: {tag: x}, to: fast}, {to: fast}]\n",
    JOB + ONE + OUT + "routes: [{to: fast, fallbacks: [x]}]\n",
    "version: 1\ninput: in.jsonl\n" + ONE + OUT,
    "version: 1\ninput: {id: x}\n" + ONE + OUT,
    "version: 1\ninput: {path: x, promt: y}\n" + ONE + OUT,
    "version: 1\ninput: {path: x, prompt: a, messages: [{role: user, content: x}]}\n" + ONE + OUT,
    "version: 1\ninput: {path: x, messages: []}\n" + ONE + OUT,
    "version: 1\ninput: {path: x, messages: [{role: user}]}\n" + ONE + OUT,
    "version: 1\ninput: {use: parquet, path: x}\n" + ONE + OUT,
]


@SCHEMAS
def test_is_valid_itself(registry: Registry, draft: str, validator: Any) -> None:
    schema = job_schema(registry, draft=draft)
    assert schema["$schema"] == draft
    validator.check_schema(schema)
    assert json.loads(json.dumps(schema)) == schema


@SCHEMAS
@pytest.mark.parametrize("job", RIGHT)
def test_accepts_what_the_loader_accepts(
    load: Callable[[str], Job], registry: Registry, job: str, draft: str, validator: Any
) -> None:
    load(job)
    data = Document(Path("job.yaml"), job).data
    errors = [error.message for error in validator(job_schema(registry, draft=draft)).iter_errors(data)]
    assert errors == []


@SCHEMAS
@pytest.mark.parametrize("job", WRONG)
def test_refuses_what_the_loader_refuses(
    load: Callable[[str], Job], registry: Registry, job: str, draft: str, validator: Any
) -> None:
    with pytest.raises(JobError):
        load(job)
    data = Document(Path("job.yaml"), job).data
    assert not validator(job_schema(registry, draft=draft)).is_valid(data)


def test_draft_07_has_no_words_of_later_drafts(registry: Registry) -> None:
    text = json.dumps(job_schema(registry, draft=DRAFT_07))
    for word in ('"$defs"', '"#/$defs/', '"prefixItems"'):
        assert word not in text


class Pair(BaseModel):
    model_config = ConfigDict(extra="forbid")

    both: tuple[int, str]


class PairOptions(ProviderOptions):
    pair: Pair
    other: tuple[Pair, int] | None = None

    def build(self, context: BuildContext) -> Provider:
        return Provider()


@SCHEMAS
def test_pairs_and_models_in_models_are_kept(registry: Registry, draft: str, validator: Any) -> None:
    registry.add("provider", "pair", PairOptions)
    check = validator(job_schema(registry, draft=draft))
    job: dict[str, Any] = {"version": 1, "input": {"path": "x"}, "output": "y"}
    for pair, right in (([1, "a"], True), ([1, "a", 2], False), (["a", 1], False), ([1], False)):
        options = {"use": "pair", "pair": {"both": pair}, "other": [{"both": pair}, 5]}
        assert check.is_valid({**job, "providers": {"p": options}}) is right


def test_every_component_and_its_words_are_in_it(registry: Registry) -> None:
    schema = job_schema(registry)
    assert {"provider.chat", "provider.echo", "sink.jsonl", "policy.exponential", "when"} <= set(schema["$defs"])
    assert schema["$defs"]["provider.echo"]["properties"]["timeout"]["description"]
    assert schema["properties"]["params"]["description"]
    assert set(schema["$defs"]["when"]["properties"]) == {"any", "not", "longer", "tag"}


class TestInstalled:
    """With what this checkout has installed."""

    JOB = """
version: 1
name: answers
input:
  path: prompts.jsonl
  id: row_id
  prompt: "{{ question }}"
  priority: "{{ urgency }}"
params: {temperature: 0, max_tokens: 256}
providers:
  fast:  {use: openai-chat,  model: gpt-5-mini, base_url: "http://127.0.0.1:8000/v1", api_key: "env:OPENAI_API_KEY",
          max_concurrency: 64, limits: {rpm: 500, tpm: 200000}, timeout: 60s}
  slow:  {use: openai-chat,  model: gpt-5, base_url: "http://127.0.0.1:8000/v1", api_key: "env:OPENAI_API_KEY"}
routes:
  - {when: {priority: urgent}, to: fast}
  - {when: {prompt_chars: {lt: 100}}, to: fast, fallback: [slow]}
  - {to: slow, budget: {usd: 5}, deadline: 2h}
retry: {use: exponential, attempts: 5, base: 0.5s, cap: 30s}
sinks: [{use: jsonl, path: answers.jsonl}]
budget: {usd: 20}
stop_when: {failure_rate: 0.2, after: 50}
deadline: 6h
"""

    @SCHEMAS
    def test_the_example_of_the_format_is_accepted(self, tmp_path: Path, draft: str, validator: Any) -> None:
        pytest.importorskip("promptmill_openai")
        registry = Registry()
        path = tmp_path / "job.yaml"
        path.write_text(self.JOB, encoding="utf-8")
        job = load_job(path, registry)
        assert [route.chain for route in job.routes] == [("fast",), ("fast", "slow"), ("slow",)]
        schema = job_schema(registry, draft=draft)
        validator.check_schema(schema)
        data = Document(path, self.JOB).data
        assert [error.message for error in validator(schema).iter_errors(data)] == []
        data["providers"]["fast"]["modle"] = "x"
        assert not validator(schema).is_valid(data)

    def test_every_installed_component_is_in_it(self) -> None:
        registry = Registry()
        definitions = job_schema(registry)["$defs"]
        for kind in ("provider", "sink", "policy"):
            assert {f"{kind}.{name}" for name in registry.names(kind)} <= set(definitions)
        assert set(definitions["when"]["properties"]) == {"any", "not", *registry.names("condition")}
