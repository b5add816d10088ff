"""The filters a template may use: those of Jinja that cannot run away, each with its work accounted for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import msgspec
from jinja2 import pass_context
from jinja2.filters import FILTERS, make_attrgetter
from jinja2.runtime import Context

from promptmill._template.limits import ITEM_WORK, STEP_WORK, TooMuch, json_of, size_of, text_of, work_of

STEPS: Final = " steps"
TEXT: Final = " text"
"""Filters the guard puts in: their names cannot be written in a template."""

_MOST_INDENT: Final = 32

# Left out on purpose: center, format, wordwrap, xmlattr, batch and slice make big things of small numbers; random
# and lipsum differ on each run; attr, safe, escape, urlize, striptags, pprint and the like are not for prompts.
_ACCOUNTED: Final = (
    *("abs", "capitalize", "count", "d", "default", "dictsort", "first", "float", "groupby", "int", "items", "last"),
    *("length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "reverse", "select", "selectattr"),
    *("sort", "title", "trim", "truncate", "unique", "upper", "urlencode", "wordcount"),
)

_COMPARING: Final = tuple(FILTERS[name] for name in ("dictsort", "groupby", "max", "min", "sort", "unique"))
"""These call a key function for each item."""

Filter = Callable[..., Any]


def allowed_filters() -> dict[str, Filter]:
    """All filters by name."""
    return {
        **{name: _accounted(FILTERS[name]) for name in _ACCOUNTED},
        "indent": _indent,
        "join": _join,
        "replace": _replace,
        "round": _round,
        "string": _string,
        "sum": _sum,
        "tojson": _tojson,
        STEPS: _steps,
        TEXT: _text,
    }


def _accounted(function: Filter) -> Filter:
    """``function``, a filter of Jinja's whose result is about as big as its input, with input and result accounted."""
    weight = 8 if function in _COMPARING else 1
    passed = getattr(getattr(function, "jinja_pass_arg", None), "name", None)

    @pass_context
    def filter_(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        work = work_of(context)
        work.spend(weight * size_of(value))
        first = {"context": (context,), "eval_context": (context.eval_ctx,), "environment": (context.environment,)}
        result = function(*first.get(passed or "", ()), value, *args, **kwargs)
        work.make_text(size_of(result))
        return result

    return filter_


@pass_context
def _steps(context: Context, values: Iterable[Any], weight: int = 1) -> Iterator[Any]:
    """What a loop goes through, each step accounted as so many."""
    work = work_of(context)
    for value in values:
        work.spend(STEP_WORK * weight)
        yield value


@pass_context
def _text(context: Context, parts: list[Any]) -> str:
    """The parts of ``a ~ b ~ c`` as one text."""
    return _joined(context, parts, "")


@pass_context
def _join(context: Context, value: Iterable[Any], d: str = "", attribute: str | int | None = None) -> str:
    if attribute is not None:
        value = map(make_attrgetter(context.environment, attribute), value)
    return _joined(context, value, d)


def _joined(context: Context, parts: Iterable[Any], between: str) -> str:
    work = work_of(context)
    texts: list[str] = []
    for part in parts:
        texts.append(text_of(part, work))
        work.spend(ITEM_WORK)
    work.make_text(sum(map(len, texts)) + len(between) * len(texts))
    return between.join(texts)


@pass_context
def _replace(context: Context, value: Any, old: str, new: str, count: int = -1) -> str:
    work = work_of(context)
    text = text_of(value, work)
    times = text.count(old) if count < 0 else min(count, text.count(old))
    work.make_text(max(0, len(text) + times * (len(new) - len(old))))
    return text.replace(old, new, count)


@pass_context
def _indent(context: Context, value: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    """Lines are those between newlines; Jinja's filter breaks them at other characters too."""
    work = work_of(context)
    if isinstance(width, int) and not 0 <= width <= _MOST_INDENT:
        raise TooMuch(f"indents by {width}, more than {_MOST_INDENT}")
    space = " " * width if isinstance(width, int) else width
    head, *rest = text_of(value, work).split("\n")
    work.make_text(size_of(value) + len(space) * (len(rest) + 1))
    lines = [space + head if first and (head or blank) else head]
    lines += [space + line if line or blank else line for line in rest]
    return "\n".join(lines)


@pass_context
def _string(context: Context, value: Any) -> str:
    return text_of(value, work_of(context))


@pass_context
def _sum(context: Context, value: Iterable[Any], attribute: str | int | None = None, start: float = 0) -> Any:
    """Numbers only: a sum of lists copies the list at every step."""
    if attribute is not None:
        value = map(make_attrgetter(context.environment, attribute), value)
    numbers = list(_steps(context, value))
    if not all(isinstance(number, int | float) for number in (start, *numbers)):
        raise TypeError("sum adds numbers only")
    return sum(numbers, start)


def _round(value: float, precision: int = 0, method: str = "common") -> float:
    if not 0 <= precision <= 15:
        raise TooMuch(f"rounds to {precision} places; 0 to 15 make sense")
    if method == "common":
        return round(float(value), precision)
    if method not in ("ceil", "floor"):
        raise ValueError("the method of round is common, ceil or floor")
    scale = 10**precision
    whole = math.ceil if method == "ceil" else math.floor
    return float(whole(float(value) * scale) / scale)


@pass_context
def _tojson(context: Context, value: Any, indent: int | None = None) -> str:
    """JSON as it is: Jinja's filter escapes it for HTML."""
    work = work_of(context)
    text = json_of(value, work)
    if indent is None:
        return text
    if not 0 <= indent <= 8:
        raise TooMuch(f"indents JSON by {indent}, more than 8")
    # Every bracket and comma may bring a newline and its indentation, at most as deep as there are brackets.
    work.make_text(len(text) + (text.count(",") + 2 * _brackets(text)) * (1 + indent * min(_brackets(text), 50)))
    return msgspec.json.format(text, indent=indent)


def _brackets(text: str) -> int:
    return text.count("[") + text.count("{")
