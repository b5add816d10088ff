"""One template of a job, compiled."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from jinja2 import nodes
from jinja2.exceptions import TemplateSyntaxError, UndefinedError
from jinja2.meta import find_undeclared_variables

from promptmill._template.limits import MAX_TEXT, WORK_KEY, NullValue, TooMuch, Work, text_of
from promptmill._template.sandbox import METHODS, PromptEnvironment
from promptmill.errors import Problem
from promptmill.jsontext import JSON

Columns: TypeAlias = Mapping[str, JSON]

# `{{ name }}` and nothing else, as most templates are. A block scalar of YAML ends with a newline.
_ONE_COLUMN: Final = re.compile(r"\{\{\s*([^\W\d]\w*)\s*\}\}\n?")
_NO_COLUMNS: Final = frozenset({"true", "false", "none", "True", "False", "None", "not", "range", "namespace", "row"})


_EXPRESSION: Final = re.compile(r"\{\{|\{%")
_TAGS: Final = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
_BRACED: Final = re.compile(r"(?<!\{)\{\s*([^\W\d]\w*)\s*\}(?!\})")


class BadTemplate(Exception):
    """A template does not compile; ``problem`` says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


class RenderError(Exception):
    """A template fails on a row. ``code`` is ``template`` or ``template_null``, ``key`` the name of the field."""

    def __init__(self, code: str, message: str, key: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.key = key


class Field:
    """A template of the field ``name``. Columns are variables; ``row`` is all of them, for names that are no
    identifiers: ``{{ row['my column'] }}``."""

    def __init__(self, name: str, source: str, environment: PromptEnvironment) -> None:
        """Raises BadTemplate when ``source`` does not compile."""
        self.name = name
        self._fill = _compiled(name, source, environment)
        self.columns = columns_in(source, environment)
        """The columns it names; None when it may use any of them."""
        self.is_constant = self.columns == frozenset() and not _EXPRESSION.search(source)
        """Whether it is sent as it stands, without any expression."""
        self.braced = frozenset(_BRACED.findall(_TAGS.sub("", source)))
        """Names in single braces."""

    def render(self, columns: Columns, work: Work) -> str:
        """The text for one row.

        Raises:
            RenderError: it fails on this row.
        """
        try:
            return self._fill(columns, work)
        except NullValue:
            raise RenderError(
                "template_null",
                f"the template of `{self.name}` puts a null into the text; write {{{{ column or '' }}}} to allow it",
                self.name,
            ) from None
        except UndefinedError as error:
            raise RenderError("template", f"the template of `{self.name}` fails: {error.message}", self.name) from error
        except TooMuch as error:
            raise RenderError("template", f"the template of `{self.name}` {error}", self.name) from error
        except Exception as error:  # whatever an expression can raise, it is the row or the template
            message = f"the template of `{self.name}` fails: {type(error).__name__}: {error}"
            raise RenderError("template", message, self.name) from error


def _compiled(name: str, source: str, environment: PromptEnvironment) -> Callable[[Columns, Work], str]:
    alone = _ONE_COLUMN.fullmatch(source)
    if alone and alone[1] not in _NO_COLUMNS:
        return _column(alone[1])
    try:
        tree = environment.parse_guarded(source)
        constant = _constant(tree)
        if constant is not None:
            return lambda _columns, _work: constant
        code = environment.compile(tree)
    except (TemplateSyntaxError, RecursionError, SyntaxError) as error:
        line = getattr(error, "lineno", None)
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else getattr(error, "message", error)
        place = f" (line {line} of the template)" if line else ""
        raise BadTemplate(
            Problem(
                "E0210",
                f"the template of `{name}` is wrong{place}: {reason}",
                hint="templates are Jinja2: https://jinja.palletsprojects.com/templates",
                key=name,
            )
        ) from error
    template = environment.template_class.from_code(environment, code, environment.globals)

    def fill(columns: Columns, work: Work) -> str:
        context = template.new_context({"row": columns, **columns, WORK_KEY: work})
        pieces, length = [], 0
        for piece in template.root_render_func(context):
            pieces.append(piece)
            length += len(piece)
            if length > MAX_TEXT:
                raise TooMuch(f"makes a text of more than {MAX_TEXT} characters")
        return "".join(pieces)

    return fill


def _column(name: str) -> Callable[[Columns, Work], str]:
    def fill(columns: Columns, work: Work) -> str:
        try:
            value = columns[name]
        except KeyError:
            raise UndefinedError(f"{name!r} is undefined") from None
        return text_of(value, work)

    return fill


def _constant(tree: nodes.Template) -> str | None:
    """The text of a template without any expression, else None."""
    if not tree.body:
        return ""
    match tree.body:
        case [nodes.Output(nodes=[nodes.TemplateData(data=text)])]:
            return str(text)
    return None


def columns_in(source: str, environment: PromptEnvironment) -> frozenset[str] | None:
    """The columns a template that compiles names; None when it uses ``row`` as a whole."""
    alone = _ONE_COLUMN.fullmatch(source)
    if alone and alone[1] not in _NO_COLUMNS:
        return frozenset([alone[1]])
    tree = environment.parse(source)
    names = set(find_undeclared_variables(tree))
    if "row" in names:
        names.remove("row")
        by_name = [node.attr for node in tree.find_all(nodes.Getattr) if _is_row(node.node)]
        by_key = [node.arg for node in tree.find_all(nodes.Getitem) if _is_row(node.node)]
        keys = [arg.value for arg in by_key if isinstance(arg, nodes.Const) and isinstance(arg.value, str)]
        uses = sum(_is_row(node) for node in tree.find_all(nodes.Name))
        if len(by_name) + len(keys) < uses or not METHODS.isdisjoint(by_name):
            return None
        names.update(by_name, keys)
    return frozenset(names)


def _is_row(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Name) and node.name == "row"
