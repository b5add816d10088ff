"""Going on with a run: the same job and input go on, anything else is refused word for word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from promptmill._app import Outcome, PreparedJob, prepare
from promptmill._registry import Registry
from promptmill.errors import InputError, JobError, Permanent, PromptmillError
from promptmill.interfaces import RealtimeProvider
from promptmill.models import Request, Response
from promptmill.options import BuildContext, ProviderOptions

START_OVER = "undo the change to go on with this run, or start over with `--fresh` (the old run is kept aside)"


class Answers(RealtimeProvider):
    """Echoes, and fails for prompts in ``bad``."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.bad: set[str] = set()

    async def complete(self, request: Request, *, timeout: float) -> Response:
        text = request.messages[-1].text
        self.calls.append(text)
        if text in self.bad:
            raise Permanent("no")
        return Response(text=text)


class Desk:
    """A folder with a job whose provider is in this process."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.provider = Answers()
        desk = self

        class AnswersOptions(ProviderOptions):
            flavour: str = "plain"

            def build(self, context: BuildContext) -> Answers:
                return desk.provider

        self._options = AnswersOptions
        self.write_rows(range(6))
        self.write_job()

    def write_rows(self, names: Any) -> None:
        lines = [json.dumps({"id": f"r{name}", "prompt": f"p{name}"}) for name in names]
        (self.root / "in.jsonl").write_text("\n".join(lines) + "\n")

    def write_job(self, **changes: Any) -> None:
        provider = {"use": "answers", "model": "m", **changes.pop("provider", {})}
        job = {"version": 1, "input": {"path": "in.jsonl"}, "providers": {"a": provider}, "output": "out.jsonl"}
        (self.root / "job.yaml").write_text(json.dumps({**job, **changes}))

    def prepared(self) -> PreparedJob:
        registry = Registry()
        registry.add("provider", "answers", self._options)
        return prepare(self.root / "job.yaml", registry=registry)

    async def run(self, **options: Any) -> Outcome:
        return await self.prepared().run(**options)

    async def refused(self, kind: type[PromptmillError]) -> PromptmillError:
        """The error of a run that may not go on. Nothing is sent, nothing changes."""
        before, calls = self.output(), len(self.provider.calls)
        with pytest.raises(kind) as caught:
            await self.run()
        assert (self.output(), len(self.provider.calls)) == (before, calls)
        return caught.value

    def output(self) -> bytes:
        return (self.root / "out.jsonl").read_bytes()

    def ids(self) -> list[str]:
        return sorted(json.loads(line)["id"] for line in self.output().split(b"\n")[:-1])


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


async def test_a_finished_run_calls_nobody(desk: Desk) -> None:
    await desk.run()
    before = desk.output()
    outcome = await desk.run()
    assert len(desk.provider.calls) == 6
    assert desk.output() == before
    assert (outcome.summary.succeeded, outcome.summary.resumable) == (6, False)


async def test_rows_added_at_the_end_are_run(desk: Desk) -> None:
    await desk.run()
    desk.write_rows(range(8))
    await desk.run()
    assert desk.provider.calls[6:] in (["p6", "p7"], ["p7", "p6"])
    assert desk.ids() == [f"r{at}" for at in range(8)]
    await desk.run()
    assert len(desk.provider.calls) == 8


async def test_a_changed_row_is_refused(desk: Desk) -> None:
    await desk.run()
    lines = (desk.root / "in.jsonl").read_text().replace('"p2"', '"other"').replace('"p4"', '"another"')
    (desk.root / "in.jsonl").write_text(lines)
    error = await desk.refused(InputError)
    assert error.message == "the input has changed since this run began"
    assert [(one.code, one.message, one.hint) for one in error.problems] == [
        ("E0341", "2 rows that are answered already changed in the input: 'r2', 'r4'", START_OVER)
    ]


async def test_a_removed_row_is_refused(desk: Desk) -> None:
    await desk.run()
    desk.write_rows([0, 1, 2, 3, 4])
    error = await desk.refused(InputError)
    messages = [one.message for one in error.problems]
    assert messages == ["1 rows that are answered already went away in the input: 'r5'"]


async def test_moved_rows_are_refused(desk: Desk) -> None:
    """Results are kept by their position: a row put before them would take the place of another."""
    await desk.run()
    desk.write_rows([9, 0, 1, 2, 3, 4, 5])
    error = await desk.refused(InputError)
    messages = [one.message for one in error.problems]
    assert messages == ["6 rows that are answered already moved in the input: 'r0', 'r1', 'r2', 'r3', 'r4', 'r5'"]


async def test_many_changed_rows_are_counted(desk: Desk) -> None:
    desk.write_rows(range(15))
    await desk.run()
    (desk.root / "in.jsonl").write_text((desk.root / "in.jsonl").read_text().replace(': "p', ': "q'))
    error = await desk.refused(InputError)
    assert error.problems[0].message.endswith("'r8', 'r9' and 5 more")


async def test_a_changed_job_is_refused_with_what_changed(desk: Desk) -> None:
    await desk.run()
    desk.write_job(
        provider={"model": "n", "flavour": "spicy"},
        params={"temperature": 0, "max_tokens": 5},
        input={"path": "in.jsonl", "prompt": "{{ prompt }}!"},
    )
    error = await desk.refused(JobError)
    assert (error.code, error.hint) == ("E0340", START_OVER)
    assert error.message.split("\n") == [
        "the job has changed since this run began, and its answers would not go together:",
        "    input.prompt: (not set) -> '{{ prompt }}!'",
        "    params.max_tokens: (not set) -> 5",
        "    params.temperature: (not set) -> 0",
        "    providers.a.flavour: (not set) -> 'spicy'",
        "    providers.a.model: 'm' -> 'n'",
    ]


async def test_what_does_not_change_answers_may_change(desk: Desk) -> None:
    await desk.run()
    desk.write_rows(range(7))
    desk.write_job(provider={"max_concurrency": 3, "timeout": "5s", "limits": {"rpm": 6000}})
    await desk.run()
    assert desk.ids() == [f"r{at}" for at in range(7)]


async def test_a_changed_job_starts_over_when_told_to(desk: Desk) -> None:
    await desk.run()
    before = desk.output()
    desk.write_job(params={"temperature": 1})
    await desk.run(fresh=True)
    assert len(desk.provider.calls) == 12
    assert desk.ids() == [f"r{at}" for at in range(6)]
    assert (desk.root / "out.jsonl.1").read_bytes() == before


@pytest.mark.parametrize("order", ["completion", "input"])
async def test_failed_rows_are_sent_again_and_replaced_in_every_sink(desk: Desk, order: str) -> None:
    desk.write_job(order=order)
    desk.provider.bad = {"p1", "p4"}
    outcome = await desk.run()
    assert (outcome.summary.succeeded, outcome.summary.failed) == (4, 2)
    assert desk.ids() == [f"r{at}" for at in range(6)]
    desk.provider.bad = {"p4"}
    outcome = await desk.run(retry_failed=True)
    assert sorted(desk.provider.calls[6:]) == ["p1", "p4"]
    assert (outcome.summary.succeeded, outcome.summary.failed) == (5, 1)
    records = [json.loads(line) for line in desk.output().split(b"\n")[:-1]]
    assert desk.ids() == [f"r{at}" for at in range(6)]
    assert [one["id"] for one in records if one["status"] == "failed"] == ["r4"]
    if order == "input":
        assert [one["index"] for one in records] == list(range(6))


async def test_a_run_without_its_journal_is_not_begun_anew(desk: Desk) -> None:
    await desk.run()
    (desk.root / ".promptmill" / "job" / "run" / "journal.db").unlink()
    error = await desk.refused(PromptmillError)
    assert (error.code, error.exit_code) == ("E0610", 6)
    assert error.hint == "start over with `--fresh`, which moves it aside, or name another file in the job's sinks"
