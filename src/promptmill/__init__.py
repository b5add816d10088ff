"""promptmill: many prompts through language models, fast, cheaply, none lost and none paid twice.

As a library::

    import promptmill

    summary = promptmill.run("job.yaml")  # anywhere, also in a notebook

    pipeline = promptmill.Pipeline({"fast": provider})
    async for result in pipeline.stream(["first prompt", "second prompt"]):
        print(result.text)
"""

from promptmill._engine import StopWhen
from promptmill._report import Summary
from promptmill._routing import AllOf, AnyOf, Not, Route
from promptmill.errors import PromptmillError, ProviderError, RunStopped
from promptmill.models import Message, Request, Response, Result, Usage
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
