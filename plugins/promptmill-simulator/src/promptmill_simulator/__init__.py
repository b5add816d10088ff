"""A local server that speaks the OpenAI API, for tests, benchmarks and rehearsals of real jobs."""

from promptmill_simulator.answers import Answer, AnswerSource
from promptmill_simulator.batch_script import BatchProblem, BatchScript, BatchTimes
from promptmill_simulator.fault_rule import FaultRule, parse_fault
from promptmill_simulator.limits import RateLimits
from promptmill_simulator.options import ProviderChoice, SimulatorOptions
from promptmill_simulator.server import Simulator
from promptmill_simulator.task import Task

__all__ = [
    "Answer",
    "AnswerSource",
    "BatchProblem",
    "BatchScript",
    "BatchTimes",
    "FaultRule",
    "ProviderChoice",
    "RateLimits",
    "Simulator",
    "SimulatorOptions",
    "Task",
    "parse_fault",
]
