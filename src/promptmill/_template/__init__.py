"""From a row of input to a request, through sandboxed templates."""

from promptmill._template.body import looks_like_asking
from promptmill._template.requests import InputTemplate

__all__ = ["InputTemplate", "looks_like_asking"]
