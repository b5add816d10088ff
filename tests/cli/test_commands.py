"""init, check, plugins and schema, as typed in a shell."""

from __future__ import annotations

import json
from typing import Any

import pytest


def test_init_writes_a_job_that_checks_and_runs(desk: Any, sim: Any) -> None:
    done = desk.run("init")
    assert (done.code, done.out) == (0, ""), done.err
    assert {path.name for path in desk.root.iterdir()} == {"job.yaml", "prompts.jsonl", "promptmill.schema.json"}
    text = desk.job.read_text("utf-8")
    assert text.startswith("# yaml-language-server: $schema=promptmill.schema.json\n")
    desk.job.write_text(text.replace("http://127.0.0.1:8000/v1", sim.base_url), "utf-8")
    assert desk.run("check", "job.yaml").code == 0
    assert sim.ledger(0)["requests"] == 0
    done = desk.run("run", "job.yaml", "--json")
    assert (done.code, done.summary["succeeded"]) == (0, 3), done.err
    assert [one["id"] for one in desk.records()] == ["capital", "haiku", "sum"]
    assert all(one["meta"] == {"question": one["text"]} for one in desk.records())


def test_init_replaces_nothing_unasked(desk: Any) -> None:
    desk.job.write_text("mine")
    desk.prompts(b"mine too")
    done = desk.run("init", "job.yaml")
    assert done.code == 2
    assert "error[E0120]" in done.err
    assert desk.job.read_text() == "mine"
    assert desk.run("init", "job.yaml", "--force").code == 0
    assert desk.job.read_text() != "mine"
    assert (desk.root / "prompts.jsonl").read_bytes() == b"mine too"


def test_init_makes_the_folder(desk: Any) -> None:
    assert desk.run("init", "a/b/answers.yaml").code == 0
    assert desk.run("check", "a/b/answers.yaml").code == 0


def test_init_where_nothing_can_be_written(desk: Any) -> None:
    (desk.root / "file").write_text("")
    done = desk.run("init", "file/job.yaml")
    assert done.code == 2
    assert "error[E0121]" in done.err


def test_check_counts_and_sends_nothing(desk: Any, sim: Any) -> None:
    desk.prompts(b'{"prompt": "good", "note": 1}\n{"prompt":\n')
    desk.write()
    done = desk.run("check", "job.yaml", "--json")
    assert done.code == 0, done.err
    (bad,) = done.summary.pop("bad")
    assert bad.pop("reason").startswith("not JSON")
    assert bad == {"row": 2, "file": "prompts.jsonl", "line": 2, "code": "input_json"}
    assert {key: value for key, value in done.summary.items() if key != "bad"} == {
        "format_version": 1,
        "job": "job",
        "ok": True,
        "rows": 2,
        "bad_rows": {"input_json": 1},
        "unused_columns": ["note"],
        "notes": [],
        "problems": [],
    }
    done = desk.run("check", "job.yaml")
    assert (done.code, done.out) == (0, "")
    assert "nothing was sent" in done.err
    assert "prompts.jsonl:2: not JSON" in done.err
    assert "1 of 2 rows cannot be used (input_json)" in done.err
    assert "columns that nothing uses: 'note'" in done.err
    assert sim.ledger(0)["requests"] == 0
    assert sorted(path.name for path in desk.root.iterdir()) == ["job.yaml", "prompts.jsonl"]


def test_check_finds_every_mistake_at_once(desk: Any) -> None:
    desk.prompts(1)
    desk.write(provider={"modle": "x"}, retry={"use": "exponentail"}, routes=[{"to": "slow"}])
    done = desk.run("check", "job.yaml")
    assert done.code == 2
    assert done.err.count("error[") == 3
    assert done.err.count("--> job.yaml:") == 3


def test_plugins_are_listed_with_their_distribution(desk: Any) -> None:
    done = desk.run("plugins", "--json")
    assert done.code == 0
    found = json.loads(done.out)
    jsonl = {"kind": "sink", "name": "jsonl", "distribution": "promptmill", "module": "promptmill.sinks.jsonl"}
    assert any(jsonl.items() <= one.items() for one in found)
    done = desk.run("plugins", "policy")
    assert (done.code, done.err) == (0, "")
    assert [line.split()[0] for line in done.out.strip().split("\n")] == ["policy.exponential"]


@pytest.mark.parametrize(("draft", "url"), [("2020-12", "2020-12/schema"), ("07", "draft-07/schema#")])
def test_the_schema_accepts_what_the_program_accepts(desk: Any, draft: str, url: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    done = desk.run("schema", "--draft", draft)
    assert (done.code, done.err) == (0, "")
    schema = json.loads(done.out)
    assert schema["$schema"].endswith(url)
    validator = jsonschema.validators.validator_for(schema)(schema)
    validator.check_schema(schema)
    job = json.loads(
        desk.write(routes=[{"when": {"prompt_chars": {"lt": 9}}, "to": "fast"}, {"to": "fast"}]).read_text()
    )
    validator.validate(job)
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({**job, "ouput": "x"})
