"""Models in this process: a base class for blocking ones, and a provider that calls a Python function."""

from promptmill_local.answers import Answer
from promptmill_local.python import FunctionProvider
from promptmill_local.threads import ThreadedProvider

__all__ = ["Answer", "FunctionProvider", "ThreadedProvider"]
