"""Going on with a run whose job or input is not what it was."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from promptmill import _app
from promptmill._registry import Registry
from promptmill._run import Run
from promptmill.errors import InputError, JobError, Permanent, RunStopped
from promptmill.interfaces import Observer, RealtimeProvider
from promptmill.models import Request, Response
from promptmill.options import BuildContext, ProviderOptions

Row = Mapping[str, Any] | str


class Echo(RealtimeProvider):
    """Answers in capitals, except to ``bad``; the first prompts take the longest."""

    concurrency = 1

    def __init__(self, calls: list[str]) -> None:
        self._calls = calls

    async def complete(self, request: Request, *, timeout: float) -> Response:
        text = request.messages[-1].text
        self._calls.append(text)
        if text == "bad":
            raise Permanent("no")
        return Response(text=text.upper())


class World:
    """One job and its files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls: list[str] = []
        calls = self.calls

        class EchoOptions(ProviderOptions):
            where_only = frozenset({"base_url"})

            base_url: str = "here"
            voice: str = "loud"

            def build(self, context: BuildContext) -> Echo:
                return Echo(calls)

        self._registry = Registry()
        self._registry.add("provider", "echo", EchoOptions)
        self._registry.add("provider", "other-echo", EchoOptions)

    def write(self, *rows: Row) -> None:
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        (self.folder / "in.jsonl").write_text("".join(f"{line}\n" for line in lines))

    async def run(
        self,
        *,
        stop_after: int | None = None,
        retry_failed: bool = False,
        before: Callable[[], None] = lambda: None,
        on_plan: Callable[[Any, int], None] = lambda *_: None,
        **changes: Any,
    ) -> _app.Outcome:
        job = {
            "version": 1,
            "input": {"path": "in.jsonl"},
            "providers": {"main": {"use": "echo"}},
            "output": "out.jsonl",
            **changes,
        }
        with (self.folder / "job.yaml").open("w") as file:
            YAML(typ="safe").dump(job, file)
        prepared = _app.prepare(self.folder / "job.yaml", registry=self._registry)
        observers = [] if stop_after is None else [_StopAfter(stop_after)]

        def start(run: Run) -> None:
            before()
            for one in observers:
                one.watch(run)

        orders = _app.Orders(retry_failed=retry_failed)
        return await prepared.run(orders, observers=observers, on_plan=on_plan, on_start=start)

    def records(self) -> list[tuple[str, str]]:
        lines = (self.folder / "out.jsonl").read_bytes().split(b"\n")[:-1]
        return [(one["id"], one["text"] or one["error"]["code"]) for one in map(json.loads, lines)]


class _StopAfter(Observer):
    """Stops the run when so many requests have finished."""

    def __init__(self, count: int) -> None:
        self._left = count

    def watch(self, run: Run) -> None:
        self._run = run

    def request_finished(self, result: object) -> None:
        self._left -= 1
        if not self._left:
            self._run.stop(RunStopped("enough", code="E0530", exit_code=130))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def rows(*texts: str) -> list[dict[str, str]]:
    return [{"id": f"q{at}", "prompt": text} for at, text in enumerate(texts)]


@pytest.mark.parametrize("order", [("completion", "input"), ("input", "completion")])
async def test_the_order_may_change_between_runs(world: World, order: tuple[str, str]) -> None:
    texts = [f"t{at}" for at in range(20)]
    # The urgent ones overtake, so that the order of completion is not that of the input.
    world.write(
        *({"id": text, "prompt": text, "urgency": "urgent" if at > 9 else "bulk"} for at, text in enumerate(texts))
    )
    source = {"path": "in.jsonl", "priority": "{{ urgency }}"}
    first = await world.run(stop_after=7, order=order[0], input=source)
    assert first.stopped is not None
    await world.run(order=order[1], input=source)
    assert sorted(world.calls) == sorted(texts)
    assert sorted(id_ for id_, _ in world.records()) == sorted(texts)
    if order[1] == "input":
        assert [id_ for id_, _ in world.records()] == texts


@pytest.mark.parametrize("keys", [{"dedupe": True}, {"cache": "cache.db"}])
async def test_a_changed_prompt_is_noticed_where_the_answer_was_shared(world: World, keys: dict[str, Any]) -> None:
    world.write(*rows("same"))
    await world.run(name="earlier", output="earlier.jsonl", **keys)
    world.write(*rows("same", "x", "same"))
    await world.run(**keys)
    world.write(*rows("same", "x", "changed"), {"id": "new", "prompt": "y"})
    with pytest.raises(InputError, match="changed since") as caught:
        await world.run(**keys)
    assert "'q2'" in caught.value.problems[0].message


async def test_a_bad_row_is_not_taken_for_the_good_one_with_its_number(world: World) -> None:
    counted = [{"id": str(at), "prompt": f"t{at}"} for at in range(4)]
    world.write(counted[0], "{broken", counted[2], counted[3])
    await world.run()
    world.write(counted[0], "{broken", counted[2], counted[3], {"id": "4", "prompt": "more"})
    outcome = await world.run()
    assert (outcome.summary.succeeded, outcome.summary.failed) == (4, 1)
    assert sorted(id_ for id_, _ in world.records()) == ["0", "2", "3", "4", "row-2"]
    assert world.calls == ["t0", "t2", "t3", "more"]


@pytest.mark.parametrize("ids", [True, False])
async def test_a_corrected_row_is_run_when_failures_are_retried(world: World, ids: bool) -> None:
    good = rows("a", "b") if ids else [{"prompt": "a"}, {"prompt": "b"}]
    world.write("{broken", good[1])
    await world.run()
    world.write(*good)
    with pytest.raises(InputError) as caught:
        await world.run()
    assert "--retry-failed" in str(caught.value.problems[0].hint)
    await world.run(retry_failed=True)
    assert sorted(text for _, text in world.records()) == ["A", "B"]
    assert sorted(world.calls) == ["a", "b"]


async def test_rows_added_while_a_run_reads_them_are_left_for_the_next(world: World) -> None:
    world.write(*rows("a", "b"))
    outcome = await world.run(before=lambda: world.write(*rows("a", "b", "c")))
    assert (outcome.stopped, outcome.summary.total, outcome.summary.succeeded) == (None, 2, 2)
    outcome = await world.run()
    assert (outcome.summary.total, outcome.summary.succeeded) == (3, 3)
    assert world.calls == ["a", "b", "c"]


async def test_rows_lost_while_a_run_reads_them_are_an_error(world: World) -> None:
    world.write(*rows("a", "b", "c"))
    with pytest.raises(InputError, match="had 3 rows when it was checked, and now it has 1") as caught:
        await world.run(before=lambda: world.write(*rows("a")))
    assert caught.value.calls_made
    world.write(*rows("a", "b", "c"))
    await world.run()
    assert sorted(text for _, text in world.records()) == ["A", "B", "C"]
    assert world.calls == ["a", "b", "c"]


@pytest.mark.parametrize("keys", [{}, {"dedupe": True}, {"cache": "cache.db"}])
async def test_a_number_of_any_size_in_a_row_costs_nothing_but_its_row(world: World, keys: dict[str, Any]) -> None:
    body = {"messages": [{"role": "user", "content": "a"}], "seed": 2**70}
    line = {"custom_id": "q0", "method": "POST", "url": "/v1/chat/completions", "body": body}
    world.write(line, {**line, "custom_id": "q1", "body": {**body, "seed": 1}})
    outcome = await world.run(**keys)
    assert (outcome.stopped, outcome.summary.succeeded) == (None, 2)
    await world.run(**keys)
    assert world.calls == ["a", "a"]


@pytest.mark.parametrize(
    "params",
    [
        {"logit_bias": {50256: -100}},
        {"stop": None},
        {"since": date(2024, 1, 1)},
        {"temperature": 0.1, "top_p": 1.0},
    ],
)
async def test_a_job_that_has_not_changed_goes_on(world: World, params: dict[str, Any]) -> None:
    world.write(*rows("a"))
    await world.run(params=params)
    world.write(*rows("a", "b"))
    outcome = await world.run(params=params)
    assert outcome.summary.succeeded == 2


async def test_a_provider_that_has_moved_is_used_where_it_is_and_told(world: World) -> None:
    world.write({"prompt": "a"}, {"prompt": "b"})
    await world.run(providers={"echo": {"use": "echo", "base_url": "http://one"}})
    world.write({"prompt": "a"}, {"prompt": "b"}, {"prompt": "c"})
    moved: list[tuple[str, ...]] = []
    for _ in range(2):
        provider = {"use": "echo", "base_url": "http://two"}
        await world.run(providers={"echo": provider}, on_plan=lambda plan, _: moved.append(plan.moved))
    assert moved == [("providers.echo.base_url: 'http://one' -> 'http://two'",), ()]
    assert sorted(world.calls) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "provider",
    [
        {"use": "echo", "base_url": "http://two", "voice": "low"},
        {"use": "echo", "base_url": "http://two", "model": "other"},
        {"use": "other-echo", "base_url": "http://two"},
    ],
)
async def test_a_provider_that_is_another_is_refused_wherever_it_is(world: World, provider: dict[str, Any]) -> None:
    world.write({"prompt": "a"})
    await world.run(providers={"echo": {"use": "echo", "base_url": "http://one"}})
    with pytest.raises(JobError) as caught:
        await world.run(providers={"echo": provider})
    assert caught.value.code == "E0340"
