"""A local server that speaks the OpenAI API, for tests, benchmarks and rehearsals of real jobs."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from promptmill_simulator.answers import Answer, AnswerSource
    from promptmill_simulator.batch_looks import BatchLooks
    from promptmill_simulator.batch_problem import BatchProblem
    from promptmill_simulator.batch_script import BatchScript, BatchTimes
    from promptmill_simulator.batch_text import parse_batch
    from promptmill_simulator.batch_troubles import LineTroubles
    from promptmill_simulator.fault_rule import FaultRule, parse_fault
    from promptmill_simulator.limits import RateLimits
    from promptmill_simulator.options import ProviderChoice, SimulatorOptions
    from promptmill_simulator.server import Simulator
    from promptmill_simulator.task import Task

__all__ = [
    "Answer",
    "AnswerSource",
    "BatchLooks",
    "BatchProblem",
    "BatchScript",
    "BatchTimes",
    "FaultRule",
    "LineTroubles",
    "ProviderChoice",
    "RateLimits",
    "Simulator",
    "SimulatorOptions",
    "Task",
    "parse_batch",
    "parse_fault",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: listing the command must not load the server."""
    from importlib import import_module

    homes = {
        "Answer": "answers",
        "AnswerSource": "answers",
        "BatchLooks": "batch_looks",
        "BatchProblem": "batch_problem",
        "BatchScript": "batch_script",
        "BatchTimes": "batch_script",
        "FaultRule": "fault_rule",
        "LineTroubles": "batch_troubles",
        "ProviderChoice": "options",
        "RateLimits": "limits",
        "Simulator": "server",
        "SimulatorOptions": "options",
        "Task": "task",
        "parse_batch": "batch_text",
        "parse_fault": "fault_rule",
    }
    if name not in homes:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{homes[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
