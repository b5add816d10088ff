"""Composition: options in, a working application out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from promptmill.clock import Clock
from promptmill_simulator.answers import AnswerSource
from promptmill_simulator.apierror import Reply
from promptmill_simulator.app import App
from promptmill_simulator.batch_lines import LineAnswers
from promptmill_simulator.batch_plan import BatchPlans
from promptmill_simulator.batch_runner import BatchRunner
from promptmill_simulator.batches import Batches
from promptmill_simulator.call import Call
from promptmill_simulator.chat import Chat
from promptmill_simulator.embeddings import Embeddings
from promptmill_simulator.faults import Faults
from promptmill_simulator.file_store import FileStore
from promptmill_simulator.files import Files
from promptmill_simulator.ids import Ids
from promptmill_simulator.ledger import Ledger
from promptmill_simulator.limits import RateLimiter
from promptmill_simulator.models import Models
from promptmill_simulator.operation import Operation, Tools
from promptmill_simulator.options import SimulatorOptions
from promptmill_simulator.realtime import Realtime
from promptmill_simulator.responses import Responses
from promptmill_simulator.routes import Route, Router
from promptmill_simulator.task import Digester


class Assembly(msgspec.Struct, frozen=True):
    """The application, and what its owner wants to look at or reset."""

    app: App
    ledger: Ledger
    runner: BatchRunner
    reset: Callable[[], None]


def assemble(options: SimulatorOptions, answers: AnswerSource, clock: Clock, directory: Path) -> Assembly:
    """Put a simulator together. ``directory`` exists and is the simulator's own."""
    digester, ids = Digester(options.seed), Ids()
    tools = Tools(answers, digester, ids, clock)
    operations: dict[str, Operation] = {kind.path: kind(tools) for kind in (Chat, Responses, Embeddings)}
    models, faults = Models(options.models), Faults(options.faults, digester)
    limiter, ledger = RateLimiter(options.limits, clock), Ledger(clock, options.ledger_size)
    store = FileStore(directory, ids, clock, options.speed)
    lines = LineAnswers(operations, models, faults, ledger, ids, clock)
    runner, plans = BatchRunner(lines, store, clock, options), BatchPlans(options)
    batches = Batches(store=store, runner=runner, plans=plans, ledger=ledger, ids=ids, clock=clock, speed=options.speed)
    routes = [*model_routes(models), *Files(store, ranges=options.ranges).routes(), *batches.routes()]

    def reset() -> None:
        ledger.reset()
        limiter.reset()
        faults.reset()
        plans.reset()

    app = App(
        operations=operations,
        realtime=Realtime(models, faults, limiter, options.latency, ledger, clock),
        router=Router(routes),
        faults=faults,
        ledger=ledger,
        ids=ids,
        clock=clock,
        api_key=options.api_key,
        reset=reset,
    )
    return Assembly(app, ledger, runner, reset)


def model_routes(models: Models) -> list[Route]:
    async def listing(call: Call, target: str) -> Reply:
        del call, target
        return models.list()

    async def one(call: Call, target: str) -> Reply:
        del call
        return models.get(target)

    return [
        Route("GET", "/v1/models", "models.list", listing),
        Route("GET", "/v1/models/*", "models.retrieve", one),
    ]
