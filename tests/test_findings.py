"""What a look at every row finds: each mistake once, with the columns there are, the job's line and a count."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import pytest

from promptmill._app import PreparedJob, prepare
from promptmill._findings import MOST_PROBLEMS
from promptmill._input import InputReport
from promptmill._plan import plan_job
from promptmill.cli.plan import lines_of
from promptmill.errors import InputError


@pytest.fixture
def job(tmp_path: Path) -> Any:
    def make(data: str, name: str = "in.csv", **changes: Any) -> PreparedJob:
        pytest.importorskip("promptmill_openai")
        (tmp_path / name).write_text(data, encoding="utf-8", newline="")
        given = changes.pop("input", {})
        provider = {"use": "openai-chat", "model": "m", "base_url": "http://127.0.0.1:9/v1"}
        text = {
            "version": 1,
            "input": {"path": name, **given},
            "providers": {"p": provider},
            "output": "out.jsonl",
            **changes,
        }
        (tmp_path / "job.yaml").write_text(json.dumps(text, indent=1), encoding="utf-8")
        return prepare(tmp_path / "job.yaml")

    return make


async def refused(prepared: PreparedJob) -> InputError:
    with pytest.raises(InputError) as caught:
        await prepared.check()
    for problem in caught.value.problems:
        assert problem.hint
    return caught.value


async def checked(prepared: PreparedJob) -> InputReport:
    report: InputReport = await prepared.check()
    return report


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize(
    ("header", "prompt", "hint"),
    [
        (
            "Question ,ID",
            "Q: {{ question }}",
            "the columns of in.csv are 'Question', 'ID'; did you mean {{ Question }}?",
        ),
        ("my question,b", "{{ my_question }}", "did you mean {{ row['my question'] }}?"),
        ("qestion,b", "{{ question | upper }}", "did you mean {{ qestion }}?"),
        ("a,b", "{{ question }}", "the columns of in.csv are 'a', 'b'"),
        ("a", "{{ question }}", "the only column of in.csv is 'a'"),
    ],
)
async def test_the_columns_are_named_once(job: Any, header: str, prompt: str, hint: str) -> None:
    rows = "\n".join(",".join("x" for _ in header.split(",")) for _ in range(30))
    error = await refused(job(f"{header}\n{rows}\n", input={"prompt": prompt}))
    (problem,) = error.problems
    assert (problem.hint or "").endswith(hint)
    assert "(30 of 30 rows, the first is in.csv:2)" in problem.message
    assert problem.location is not None
    assert prompt in (problem.location.source or "")


async def test_a_delimiter_that_was_not_found_out_is_guessed_in_the_hint(job: Any) -> None:
    error = await refused(job("id;question\n1;x\n", input={"prompt": "{{ question }}", "delimiter": ","}))
    assert error.problems[0].hint == (
        "the only column of in.csv is 'id;question': is the delimiter ';'? say it with `delimiter`"
    )


async def test_two_mistakes_are_two_problems_and_many_are_cut(job: Any) -> None:
    rows = [{"a": 1}, {"b": 2}, {"a": 3}, {"a": None, "b": 1}]
    error = await refused(job(lines(rows), "in.jsonl", input={"prompt": "{{ a }} {{ b }}"}))
    assert [problem.message.partition(" (")[2] for problem in error.problems] == [
        "2 of 4 rows, the first is in.jsonl:1)",
        "1 of 4 rows, the first is in.jsonl:2)",
        "1 of 4 rows, the first is in.jsonl:4)",
    ]
    rows = [{"a": at} for at in range(50)]
    error = await refused(
        job(lines(rows), "in.jsonl", input={"messages": [{"role": "user", "content": "{{ 1 / a }}"}]})
    )
    assert len(error.problems) == 1
    rows = [{"prompt": "x", "params": f"{{{at}"} for at in range(50)]
    error = await refused(job(lines(rows), "in.jsonl"))
    assert len(error.problems) == MOST_PROBLEMS
    assert "50 of 50 rows" in error.message


async def test_the_column_prompt_is_missing(job: Any) -> None:
    error = await refused(job("Prompt,b\nx,y\n"))
    assert error.problems[0].hint == "the columns of in.csv are 'Prompt', 'b'; did you mean 'Prompt'?"


async def test_single_braces_are_refused(job: Any) -> None:
    rows = lines([{"text": "a", "lang": "de"}, {"text": "b", "lang": "fr"}])
    error = await refused(job(rows, "in.jsonl", input={"prompt": "Translate {text} into {lang}"}))
    assert error.code == "E0312"
    assert "did you mean {{ lang }} and {{ text }}?" in (error.hint or "")
    assert error.problems[0].location is not None
    report = await checked(job(rows, "in.jsonl", input={"prompt": "Translate {{ text }} into {lang}"}))
    assert report.notes == ["{lang} is sent as it stands; a column is written {{ lang }}"]
    report = await checked(job(rows, "in.jsonl", input={"prompt": "Translate {{ '{text}' }} {other}"}))
    assert report.notes == ["all 2 prompts are the same"]


@pytest.mark.parametrize("prompt", ["Translate $text", "Translate %(text)s", "<text>", "Translate {Text}"])
async def test_prompts_that_are_all_alike_are_told(job: Any, prompt: str) -> None:
    rows = lines([{"text": f"a{at}"} for at in range(1200)])
    report = await checked(job(rows, "in.jsonl", input={"prompt": prompt}))
    assert report.notes == ["all 1,200 prompts are the same"]
    assert report.unused == ["text"]
    assert (await checked(job(lines([{"text": "a"}]), "in.jsonl", input={"prompt": prompt}))).notes == []
    assert (await checked(job(rows, "in.jsonl", input={"prompt": "{{ text }}"}))).notes == []


async def test_parameters_of_rows_are_told(job: Any) -> None:
    rows = [
        {"messages": [{"role": "user", "content": f"x{at}"}], "temperature": 0, "model": "small"} for at in range(2)
    ]
    report = await checked(job(lines(rows), "in.jsonl"))
    assert report.notes == ["sent as parameters of their rows: the columns 'model', 'temperature'"]
    rows = [{"prompt": f"x{at}", "temperature": 0, "note": 1} for at in range(2)]
    report = await checked(job(lines(rows), "in.jsonl"))
    assert report.notes == [
        "not sent: the columns 'temperature'; parameters belong into `params` of the job or of a row"
    ]
    assert report.unused == ["note", "temperature"]


async def test_bad_rows_are_told_by_their_first(job: Any) -> None:
    report = await checked(job('{"prompt": "x"}\n{"prompt"\n[1]\n', "in.jsonl"))
    assert report.bad_rows == {"input_json": 2}
    assert report.first_bad["input_json"].startswith("in.jsonl:2: not JSON")


async def test_rows_with_nothing_in_them_are_told(job: Any) -> None:
    """Spreadsheets write rows below the last one as separators alone, and each would be a prompt that is paid."""
    report = await checked(job("q,note\nWhat?,\n,\n,\n", input={"prompt": "Q: {{ q }}"}))
    assert report.notes == ["2 of 3 rows are empty in all their columns"]
    report = await checked(job(lines([{"q": 0, "note": False}]), "in.jsonl", input={"prompt": "Q: {{ q }}"}))
    assert report.notes == []


async def test_the_text_of_a_python_dict_is_named(job: Any) -> None:
    report = await checked(job("{'prompt': 'x'}\n" + lines([{"prompt": "y"}]), "in.jsonl"))
    assert "json.dumps" in report.first_bad["input_json"]


def test_the_plan_has_the_notes(job: Any, tmp_path: Path) -> None:
    job(lines([{"prompt": "same"}] * 3), "in.jsonl")
    plan = anyio.run(plan_job, tmp_path / "job.yaml")
    assert plan.notes == ["all 3 prompts are the same"]
    assert "note: all 3 prompts are the same" in lines_of(plan)
