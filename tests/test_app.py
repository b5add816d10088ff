"""The composition root: what a job file says reaches the parts that do it, and a wrong one reaches nobody."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from promptmill import _app
from promptmill._registry import Registry
from promptmill._run import Run
from promptmill.errors import InputError, Permanent, StorageError, Transient
from promptmill.interfaces import Provider, RealtimeProvider
from promptmill.models import Request, Response
from promptmill.options import BuildContext, ProviderOptions


class Recorded:
    """What the providers of a test saw."""

    def __init__(self) -> None:
        self.contexts: list[BuildContext] = []
        self.opened: list[str] = []
        self.closed: list[str] = []
        self.requests: list[tuple[str, Request, float]] = []

    @property
    def texts(self) -> list[str]:
        return sorted(request.messages[-1].text for _, request, _ in self.requests)


class Notebook(RealtimeProvider):
    """Answers in capitals; ``broken`` prompts fail for good, ``slow`` ones at the first attempt."""

    def __init__(self, name: str, recorded: Recorded, model: str | None) -> None:
        self.name = name
        self.model = model
        self._recorded = recorded

    async def aopen(self) -> None:
        self._recorded.opened.append(self.name)

    async def aclose(self) -> None:
        self._recorded.closed.append(self.name)

    async def complete(self, request: Request, *, timeout: float) -> Response:
        seen = [one.id for _, one, _ in self._recorded.requests]
        self._recorded.requests.append((self.name, request, timeout))
        text = request.messages[-1].text
        if text.startswith("broken"):
            raise Permanent("no", code="bad_request", http_status=400)
        if text.startswith("slow") and request.id not in seen:
            raise Transient("later")
        return Response(text=text.upper())


@pytest.fixture
def recorded() -> Recorded:
    return Recorded()


Prepare = Callable[..., _app.PreparedJob]


@pytest.fixture
def prepare(tmp_path: Path, recorded: Recorded) -> Iterator[Prepare]:
    """Writes a job over these rows and prepares it."""

    class NotebookOptions(ProviderOptions):
        def build(self, context: BuildContext) -> Provider:
            recorded.contexts.append(context)
            return Notebook(context.name, recorded, self.model)

    registry = Registry()
    registry.add("provider", "notebook", NotebookOptions)

    def make(rows: list[Any], *, allow_code: bool = False, **changes: Any) -> _app.PreparedJob:
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        (tmp_path / "in.jsonl").write_text("".join(f"{line}\n" for line in lines))
        job = {
            "version": 1,
            "input": {"path": "in.jsonl"},
            "providers": {"main": {"use": "notebook"}},
            "retry": {"use": "exponential", "attempts": 2, "base": "1ms", "cap": "1ms"},
            "output": "out.jsonl",
            **changes,
        }
        path = tmp_path / "night.yaml"
        path.write_text(json.dumps({key: value for key, value in job.items() if value is not None}))
        return _app.prepare(path, allow_code=allow_code, registry=registry)

    yield make
    assert recorded.closed == recorded.opened[::-1]


def prompts(*texts: str) -> list[dict[str, str]]:
    return [{"prompt": text} for text in texts]


def records(folder: Path, name: str = "out.jsonl") -> list[dict[str, Any]]:
    lines = (folder / name).read_bytes().split(b"\n")[:-1]
    return sorted((json.loads(line) for line in lines), key=lambda one: one["index"])


async def test_checking_looks_at_every_row_and_opens_nothing(
    prepare: Prepare, recorded: Recorded, tmp_path: Path
) -> None:
    report = await prepare([*prompts("a", "b"), "{broken"]).check()
    assert (report.rows, report.bad_rows) == (3, {"input_json": 1})
    assert recorded.contexts == recorded.opened == []
    assert {path.name for path in tmp_path.iterdir()} == {"in.jsonl", "night.yaml"}


async def test_a_run_from_end_to_end(prepare: Prepare, recorded: Recorded, tmp_path: Path) -> None:
    outcome = await prepare(prompts("a", "broken", "slow")).run()
    assert outcome.stopped is None
    assert (outcome.summary.total, outcome.summary.succeeded, outcome.summary.failed) == (3, 2, 1)
    assert outcome.summary.attempts == 4
    assert [one["text"] for one in records(tmp_path)] == ["A", None, "SLOW"]
    assert [one["attempts"] for one in records(tmp_path)] == [1, 1, 2]
    assert recorded.opened == ["main"]
    assert (tmp_path / ".promptmill" / "night").is_dir()


async def test_options_of_the_job_reach_the_provider(prepare: Prepare, recorded: Recorded, tmp_path: Path) -> None:
    main = {"use": "notebook", "model": "m1", "timeout": "7s"}
    job = prepare(prompts("a"), providers={"main": main}, params={"temperature": 0.5}, allow_code=True)
    await job.run()
    ((name, request, timeout),) = recorded.requests
    assert (name, request.params) == ("main", {"temperature": 0.5})
    assert timeout == pytest.approx(7, abs=0.5)
    (context,) = recorded.contexts
    assert (context.name, context.base_dir, context.allow_code) == ("main", tmp_path, True)
    assert records(tmp_path)[0]["model"] == "m1"


async def test_code_is_not_allowed_unless_said(prepare: Prepare, recorded: Recorded) -> None:
    await prepare(prompts("a")).run()
    assert [context.allow_code for context in recorded.contexts] == [False]


async def test_routes_reach_the_router(prepare: Prepare, recorded: Recorded) -> None:
    routes = [{"when": {"prompt_chars": {"lt": 3}}, "to": "short"}, {"to": "long", "fallback": ["short"]}]
    providers = {"long": {"use": "notebook"}, "short": {"use": "notebook"}}
    outcome = await prepare(prompts("hi", "good morning"), providers=providers, routes=routes).run()
    assert {name: request.messages[0].text for name, request, _ in recorded.requests} == {
        "short": "hi",
        "long": "good morning",
    }
    assert set(outcome.summary.by_provider) == {"long", "short"}


async def test_the_failure_rate_reaches_the_engine(prepare: Prepare) -> None:
    job = prepare(prompts(*["broken"] * 100), stop_when={"failure_rate": 0.5, "after": 10}, dedupe=False)
    outcome = await job.run()
    assert outcome.stopped is not None
    assert outcome.stopped.exit_code == 5
    assert outcome.summary.resumable


async def test_every_sink_gets_every_record(prepare: Prepare, tmp_path: Path) -> None:
    sinks = [{"use": "jsonl", "path": "a.jsonl"}, {"use": "jsonl", "path": "b.jsonl"}]
    await prepare(prompts("a", "b"), output=None, sinks=sinks).run()
    assert records(tmp_path, "a.jsonl") == records(tmp_path, "b.jsonl")
    assert len(records(tmp_path, "a.jsonl")) == 2


async def test_the_plan_then_the_run_are_shown_before_the_first_call(prepare: Prepare, recorded: Recorded) -> None:
    told: list[Any] = []

    def started(run: Run) -> None:
        told.append((run.progress().total, len(recorded.requests)))

    await prepare(prompts("a", "b")).run(
        on_plan=lambda plan, unknown, *_: told.append((plan.pending, plan.finished, unknown)), on_start=started
    )
    assert told == [(2, 0, 0), (2, 0)]


async def test_without_rows_no_provider_is_opened(prepare: Prepare, recorded: Recorded, tmp_path: Path) -> None:
    outcome = await prepare([]).run()
    assert (outcome.summary.total, outcome.summary.resumable, outcome.stopped) == (0, False, None)
    assert recorded.opened == []
    assert records(tmp_path) == []


async def test_templates_that_fail_refuse_the_run_with_their_places(prepare: Prepare, recorded: Recorded) -> None:
    rows = [{"question": "fine"}, *({"other": at} for at in range(20))]
    job = prepare(rows, input={"path": "in.jsonl", "prompt": "{{ question }}"})
    with pytest.raises(InputError, match="20 of 21 rows") as caught:
        await job.run()
    assert caught.value.code == "E0310"
    (problem,) = caught.value.problems
    assert "'question' is undefined (20 of 21 rows, the first is in.jsonl:2)" in problem.message
    assert problem.location is not None
    assert problem.location.file.endswith("night.yaml")
    assert problem.hint == "the only column of in.jsonl is 'other'"
    assert recorded.opened == []


async def test_ids_that_occur_twice_refuse_the_run(prepare: Prepare, recorded: Recorded) -> None:
    rows = [{"id": str(at % 7), "prompt": "p"} for at in range(9)]
    with pytest.raises(InputError) as caught:
        await prepare(rows).run()
    assert [problem.message for problem in caught.value.problems] == [
        "the id '0' of row 8 is that of row 1 too",
        "the id '1' of row 9 is that of row 2 too",
    ]
    assert recorded.opened == []


async def test_a_bad_row_takes_no_id_of_a_good_one(prepare: Prepare, tmp_path: Path) -> None:
    await prepare(["{broken", {"id": "1", "prompt": "a"}]).run()
    assert [(one["id"], one["status"]) for one in records(tmp_path)] == [("row-1", "failed"), ("1", "ok")]


async def test_an_output_that_cannot_be_opened_stops_before_any_provider(
    prepare: Prepare, recorded: Recorded, tmp_path: Path
) -> None:
    (tmp_path / "out.jsonl").mkdir()
    with pytest.raises(StorageError) as caught:
        await prepare(prompts("a")).run()
    assert caught.value.exit_code == 6
    assert recorded.opened == []


async def test_a_cancelled_run_lets_go_of_everything_and_can_go_on(
    prepare: Prepare, recorded: Recorded, tmp_path: Path
) -> None:
    job = prepare(prompts("a", "b"))
    with anyio.CancelScope() as scope:
        await job.run(on_start=lambda _: scope.cancel())
    assert scope.cancelled_caught
    outcome = await job.run()
    assert (outcome.stopped, outcome.summary.succeeded) == (None, 2)
    assert [one["text"] for one in records(tmp_path)] == ["A", "B"]
    assert recorded.texts == ["a", "b"]


async def test_a_run_cancelled_before_it_began_can_be_begun(prepare: Prepare, tmp_path: Path) -> None:
    job = prepare(prompts("a", "b"))
    with anyio.CancelScope() as scope:
        await job.run(on_plan=lambda *_: scope.cancel())
    assert scope.cancelled_caught
    await job.run()
    assert [one["text"] for one in records(tmp_path)] == ["A", "B"]
