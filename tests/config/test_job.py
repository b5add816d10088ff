"""A job file becomes a typed job, never anything but a JobError, and no message shows a secret."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from ruamel.yaml.compat import StringIO

from promptmill._config import Job, load_job
from promptmill._registry import Registry
from promptmill._routing import AnyOf, Route
from promptmill.cli.errors import lines_of
from promptmill.errors import JobError, Problem
from promptmill.options import SecretRef

Load = Callable[[str], Job]
Said = Callable[[str], str]

SMALLEST = "version: 1\ninput: {path: in.jsonl}\nproviders: {fast: {use: echo}}\noutput: out.jsonl\n"

EVERYTHING = """\
version: 1
name: answers.v2
input:
  path: [a.csv.gz, b.csv.gz]
  delimiter: ";"
  id: row_id
  messages:
    - {role: system, content: "be brief"}
    - role: user
      content: |
        {{ question }}
        {{ more }}
  priority: "{{ urgency }}"
  tags: ["{{ kind }}", fixed]
  keep: [kind]
params: {temperature: 0, stop: ["a", "no"], seed: 0o17}
providers:
  fast: {use: chat, model: m, api_key: "env:KEY", timeout: 1m30s, max_concurrency: 4,
         limits: {rpm: 500, tpm: 2e5}, connection: {proxy_pass: "file:pass"}}
  slow: {use: echo, delay: 500ms}
routes:
  - {when: {longer: 5}, to: fast, fallback: [slow]}
  - when:
      any:
        - {longer: {than: 9}, tag: {name: x}}
        - not: {tag: {name: y}}
    to: slow
    budget: {usd: 5}
    deadline: 2h
  - {to: slow}
retry: {attempts: 3, base: 2}
sinks:
  - {use: jsonl, path: one.jsonl}
  - {use: jsonl, path: two.jsonl, flush: true, schema: s}
order: input
budget: {usd: 20}
stop_when: {failure_rate: 0.2, after: 10}
deadline: 6h
"""


def test_the_smallest_job_has_defaults(load: Load) -> None:
    job = load(SMALLEST)
    assert (job.name, job.path, job.base_dir) == ("job", Path("job.yaml"), Path())
    assert job.source.model_dump() == {"path": "in.jsonl"}
    assert job.identity["input"] == {}
    assert job.identity["params"] == {}
    assert job.routes == (Route("fast"),)
    assert [sink.model_dump()["path"] for sink in job.sinks] == [Path("out.jsonl")]
    assert job.retry.model_dump() == {"attempts": 5, "base": 0.5}
    assert (job.order, job.stop_when) == ("completion", None)
    assert (job.budget_usd, job.deadline_s) == (None, None)


def test_everything_that_can_be_said(load: Load) -> None:
    job = load(EVERYTHING)
    assert job.name == "answers.v2"
    assert job.source.model_dump() == {"path": ["a.csv.gz", "b.csv.gz"], "delimiter": ";"}
    assert job.identity["input"] == {
        "id": "row_id",
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "{{ question }}\n{{ more }}\n"},
        ],
        "priority": "{{ urgency }}",
        "tags": ["{{ kind }}", "fixed"],
    }
    assert job.identity["params"] == {"temperature": 0, "stop": ["a", "no"], "seed": 15}
    fast = job.providers["fast"].model_dump()
    assert (fast["timeout"], fast["max_concurrency"]) == (90.0, 4)
    assert (fast["limits"]["rpm"], fast["limits"]["tpm"]) == (500.0, 200000.0)
    assert fast["api_key"] == SecretRef("env:KEY")
    assert fast["connection"]["proxy_pass"] == SecretRef("file:pass")
    assert job.providers["slow"].model_dump()["delay"] == 0.5
    assert [route.chain for route in job.routes] == [("fast", "slow"), ("slow",), ("slow",)]
    either = job.routes[1].when
    assert isinstance(either, AnyOf)
    assert [type(one).__name__ for one in either.conditions] == ["AllOf", "Not"]
    assert job.retry.model_dump() == {"attempts": 3, "base": 2.0}
    assert [sink.model_dump()["schema_"] for sink in job.sinks] == [None, "s"]
    assert job.order == "input"
    assert job.stop_when is not None
    assert (job.stop_when.failure_rate, job.stop_when.after) == (0.2, 10)
    assert (job.budget_usd, job.deadline_s) == (20.0, 21600.0)
    assert [(route.budget_usd, route.deadline_s) for route in job.routes] == [(None, None), (5.0, 7200.0), (None, None)]


def test_money_and_time_say_how_and_not_what(load: Load) -> None:
    """A run that stopped at its budget goes on with a larger one."""
    job = load(EVERYTHING)
    without = load(re.sub(r"(?m)^ *(budget|deadline):.*\n", "", EVERYTHING))
    assert (without.budget_usd, without.routes[1].budget_usd, without.deadline_s) == (None, None, None)
    assert without.identity == job.identity
    assert job.identity["routes"][0] == {"when": {"longer": 5}, "to": "fast", "fallback": ["slow"]}
    assert load(EVERYTHING.replace("to: slow\n    budget", "to: fast\n    budget")).identity != job.identity


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("x.jsonl", "FileSourceOptions"),
        ("x.ndjson.gz", "FileSourceOptions"),
        ("X.CSV", "TableSourceOptions"),
        ("x.tsv.zst", "TableSourceOptions"),
        ("dir.csv/x.jsonl", "FileSourceOptions"),
        ('"-"', "FileSourceOptions"),
        ('"*.csv"', "TableSourceOptions"),
        ("[x.csv, y.jsonl]", "TableSourceOptions"),
    ],
)
def test_the_name_of_the_input_says_how_to_read_it(load: Load, path: str, source: str) -> None:
    assert type(load(SMALLEST.replace("in.jsonl", path)).source).__name__ == source


@pytest.mark.parametrize("text", [SMALLEST, EVERYTHING])
def test_line_ends_and_a_byte_order_mark_change_nothing(load: Load, text: str) -> None:
    plain, other = load(text), load("\ufeff" + text.replace("\n", "\r\n"))
    assert other.providers == plain.providers
    assert other.identity == plain.identity


class TestSecrets:
    CANARY = "sk-canary-0f1e2d"

    @pytest.mark.parametrize(
        "wrong",
        [
            "providers: {{fast: {{use: chat, model: m, api_key: {}}}}}",
            "providers:\n  fast:\n    use: chat\n    model: m\n    api_key: {}",
            "providers:\n  fast:\n    use: chat\n    model: m\n    api_key: '{}'",
            "providers:\n  fast:\n    use: chat\n    model: m\n    api_key:\n      {}",
            "providers:\n  fast:\n    use: chat\n    model: m\n    api_key: >\n      {}",
            "providers:\n  fast: {{use: chat, api_key: env:{}}}",
            "providers:\n  fast: {{use: chat, api_kye: {}}}",
            "providers:\n  fast: {{use: chat, bearer: {}}}",
            "providers:\n  fast: {{use: chat, model: m, pats: [{}]}}",
            "providers:\n  fast: {{use: chat, model: m, pats: [env:A, '{}'], modle: x}}",
            "providers:\n  fast: {{use: chat, model: m, connection: {{proxy_pass: {}}}}}",
            "providers:\n  fast: {{use: chat, model: m, connection: {{proxy_passe: {}}}}}",
            "providers:\n  fast: {{use: chat, model: m, headers: {{Authorization: Bearer {}}}}}",
            "providers:\n  fast: {{use: chat, model: m, pats: {}, limits: 5}}",
            "providers:\n  fast: {{use: caht, api_key: {}}}",
            "providers: {{fast: {{use: chat, model: m, api_key: {}}}}}\nnmae: x",
            "providers: {{fast: {{api_key: {}}}}}",
            "providers:\n  fast: {{use: chat, api_key: {}: x}}",
            "providers:\n  fast:\n    api_key: !{} x",
            "providers:\n  fast:\n    api_key: *{}",
            "providers:\n  fast:\n    api_key: {}\n    api_key: {}",
            "providers:\n  fast:\n    api_key: {} \x01",
            "providers:\n  fast:\n    api_key: {}\n\tx: y",
            "params: {{api_key: {}, x: [}}",
            "input: {{path: a, password: {}}}\nproviders: {{fast: {{use: echo}}}}",
        ],
    )
    def test_are_never_quoted(self, said: Said, load: Load, wrong: str) -> None:
        text = "version: 1\n" + wrong.format(self.CANARY, self.CANARY) + "\n"
        if "input:" not in text:
            text += "input: {path: in.jsonl}\noutput: out.jsonl\n"
        shown = said(text)
        assert "error[" in shown
        assert self.CANARY not in shown
        with pytest.raises(JobError) as caught:
            load(text)
        assert self.CANARY not in repr(caught.value.problems)
        assert self.CANARY not in str(caught.value)

    def test_the_place_is_shown_without_the_value(self, said: Said) -> None:
        assert said(
            "version: 1\ninput: {path: in.jsonl}\nproviders:\n"
            f"  fast: {{use: chat, model: m, api_key: {self.CANARY}}}\noutput: out.jsonl\n"
        ) == (
            "error[E0205]: providers.fast.api_key: a secret is written as a reference, never as itself: "
            "env:NAME or file:path (put the key into an environment variable, then say env:NAME)\n"
            " --> job.yaml:4:40\n"
            "  |\n"
            "4 |   fast: {use: chat, model: m, api_key: ****************}\n"
            "  |                                        ^^^^^^^^^^^^^^^^"
        )

    def test_references_stay_readable(self, said: Said) -> None:
        shown = said(
            "version: 1\ninput: {path: in.jsonl}\nproviders:\n"
            "  fast: {use: chat, modle: m, api_key: env:KEY, pats: [file:a]}\noutput: out.jsonl\n"
        )
        assert "  fast: {use: chat, modle: *, api_key: env:KEY, pats: [file:a]}" in shown

    def test_the_traceback_of_the_error_does_not_hold_it_either(self, load: Load) -> None:
        with pytest.raises(JobError) as caught:
            load(
                "version: 1\ninput: {path: in.jsonl}\nproviders:\n"
                f"  fast:\n    use: chat\n    model: m\n    api_key: {self.CANARY}\noutput: out.jsonl\n"
            )
        assert self.CANARY not in "".join(traceback.format_exception(caught.value))


def test_several_problems_are_told_at_once(load: Load) -> None:
    with pytest.raises(JobError) as caught:
        load("version: 1\ninput: {}\nproviders: {fast: {use: ecco}, slow: {use: echo, x: 1}}\n")
    assert [problem.code for problem in caught.value.problems] == ["E0403", "E0203", "E0230", "E0204", "E0204"]
    assert caught.value.message == "5 problems in 'job.yaml'"
    assert caught.value.exit_code == 2


def test_a_default_that_is_missing_is_no_crash(load: Load, registry: Registry) -> None:
    del registry._offers["policy", "exponential"]
    with pytest.raises(JobError, match="there is no policy 'exponential'") as caught:
        load(SMALLEST)
    assert str(caught.value.problems[0].location) == "job.yaml:1:1"


JOB_KEYS = st.sampled_from(
    [
        *("version", "name", "input", "params", "providers", "routes", "retry", "output", "sinks", "order", "budget"),
        *("stop_when", "deadline", "use", "path", "model", "api_key", "limits", "rpm", "timeout", "when", "to", "any"),
        *(
            "not",
            "longer",
            "tag",
            "than",
            "fallback",
            "messages",
            "prompt",
            "role",
            "content",
            "failure_rate",
            "after",
            "usd",
        ),
    ]
)
SCALARS = st.sampled_from(
    [
        1,
        0,
        -1,
        1.5,
        True,
        None,
        "",
        "fast",
        "echo",
        "chat",
        "jsonl",
        "5s",
        "env:A",
        "x.csv",
        float("inf"),
        10**400,
        "\x1b",
    ]
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(JOB_KEYS, inner, max_size=5),
    max_leaves=25,
)
OPTIONAL = ["routes", "retry", "output", "sinks", "params", "stop_when", "order", "name", "budget", "deadline"]
JOBS = st.fixed_dictionaries(
    {
        "version": st.just(1),
        "input": st.just({"path": "x"}) | TREES,
        "providers": st.dictionaries(st.sampled_from(["fast", "5s"]), TREES, min_size=1, max_size=2),
    },
    optional=dict.fromkeys(OPTIONAL, TREES),
)


def assert_well_behaved(path: Path, registry: Registry) -> None:
    try:
        load_job(path, registry)
        problems: tuple[Problem, ...] = ()
    except JobError as error:
        problems = error.problems
    for problem in problems:
        assert problem.location is not None
        assert problem.location.line is not None
        assert str(problem.location).startswith(f"{path}:{problem.location.line}:")
        assert lines_of(problem)
        assert problem.message[:1] == problem.message[:1].lower()


FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(tree=JOBS | TREES)
def test_any_tree_is_a_job_or_a_job_error(tree: object, registry: Registry, tmp_path: Path) -> None:
    text = StringIO()
    YAML(typ="safe", pure=True).dump(tree, text)
    path = tmp_path / "job.yaml"
    path.write_text(text.getvalue(), encoding="utf-8")
    assert_well_behaved(path, registry)


@FUZZ
@given(raw=st.binary(max_size=60))
def test_any_bytes_are_a_job_or_a_job_error(raw: bytes, registry: Registry, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(raw)
    assert_well_behaved(path, registry)


@FUZZ
@given(at=st.integers(0, len(EVERYTHING)), cut=st.integers(0, 12), put=st.text(max_size=3))
def test_any_slip_of_the_pen_is_a_job_or_a_job_error(
    at: int, cut: int, put: str, registry: Registry, tmp_path: Path
) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(EVERYTHING[:at] + put + EVERYTHING[at + cut :], encoding="utf-8", errors="replace", newline="")
    assert_well_behaved(path, registry)
