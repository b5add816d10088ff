"""More than one core: processes that make the calls of a run."""

from promptmill._workers.fleet import Fleet

__all__ = ["Fleet"]
