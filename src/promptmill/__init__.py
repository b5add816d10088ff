"""promptmill: many prompts through language models, fast, cheaply, none lost and none paid twice.

As a library::

    import promptmill

    summary = promptmill.run("job.yaml")  # anywhere, also in a notebook

    pipeline = promptmill.Pipeline({"fast": provider})
    async for result in pipeline.stream(["first prompt", "second prompt"]):
        print(result.text)
"""

from typing import TYPE_CHECKING, Any

from promptmill.errors import PromptmillError, ProviderError, RunStopped
from promptmill.models import Message, Request, Response, Result, Usage

if TYPE_CHECKING:
    from promptmill._engine_spec import StopWhen
    from promptmill._report import Summary
    from promptmill._routing import AllOf, AnyOf, Not, Route
    from promptmill.pipeline import Pipeline
    from promptmill.scripts import run

__all__ = [
    "AllOf",
    "AnyOf",
    "Message",
    "Not",
    "Pipeline",
    "PromptmillError",
    "ProviderError",
    "Request",
    "Response",
    "Result",
    "Route",
    "RunStopped",
    "StopWhen",
    "Summary",
    "Usage",
    "run",
]


def __getattr__(name: str) -> Any:
    """Import the engine when it is first asked for: the command line and plugins often do without."""
    from importlib import import_module

    homes = {
        "AllOf": "_routing",
        "AnyOf": "_routing",
        "Not": "_routing",
        "Pipeline": "pipeline",
        "Route": "_routing",
        "StopWhen": "_engine_spec",
        "Summary": "_report",
        "run": "scripts",
    }
    if name not in homes:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{homes[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
