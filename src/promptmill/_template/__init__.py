"""From a row of input to a request, through sandboxed templates."""

from promptmill._template.requests import InputTemplate

__all__ = ["InputTemplate"]
