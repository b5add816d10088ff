"""The template environment: Jinja's immutable sandbox, narrowed to what cannot run away.

Jinja's sandbox keeps a template from reaching the interpreter, but not from making a string of a gigabyte. So only
known statements, filters and methods compile at all, loops are counted, and arithmetic looks at its operands first.
"""

from __future__ import annotations

from typing import Any, Final, cast

from jinja2 import StrictUndefined, nodes, pass_context
from jinja2.exceptions import SecurityError, TemplateSyntaxError
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from promptmill._template.filters import STEPS, TEXT, allowed_filters
from promptmill._template.limits import MAX_INT_BITS, TooMuch, size_of, text_of, work_of

METHODS: Final = frozenset(
    {
        *("capitalize", "casefold", "count", "cycle", "endswith", "find", "get", "index", "isalnum", "isalpha"),
        *("isdigit", "items", "keys", "lower", "lstrip", "partition", "removeprefix", "removesuffix", "rfind"),
        *("rpartition", "rsplit", "rstrip", "split", "splitlines", "startswith", "strip", "swapcase", "title"),
        *("upper", "values"),
    }
)
"""Methods of texts, lists, mappings and loops that give back no more than they were given."""

_NODES_A_STEP: Final = 16
"""Nodes of the syntax tree in the body of a loop that one step is counted for: a long body takes long."""

FUNCTIONS: Final = frozenset({"namespace", "range"})

_STATEMENTS: Final = (nodes.Template, nodes.Output, nodes.If, nodes.For, nodes.Assign, nodes.With)


class PromptEnvironment(ImmutableSandboxedEnvironment):
    """Compiles and runs prompt templates. No loader, no auto-escaping, undefined variables are errors."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "**", "%"})

    def __init__(self) -> None:
        super().__init__(undefined=StrictUndefined, autoescape=False, optimized=False, finalize=_finalize)
        self.filters = allowed_filters()
        self.globals = {"range": safe_range, "namespace": Namespace}

    def parse_guarded(self, source: str) -> nodes.Template:
        """The syntax tree of ``source`` with its loops and joins accounted for.

        Raises:
            TemplateSyntaxError: it is no template, or uses what is not allowed.
        """
        tree: nodes.Template = _Guard(self).visit(self.parse(source))
        return tree

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        return super().is_safe_attribute(obj, attr, value) and (attr in METHODS or not callable(value))

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - Jinja's
        owner = getattr(__obj, "__self__", None)
        if not (
            __obj in (safe_range, Namespace)
            or (isinstance(owner, str | list | dict | LoopContext) and __obj.__name__ in METHODS)
        ):
            raise SecurityError(f"{type(__obj).__name__} cannot be called in a template")
        work = work_of(__context)
        work.spend(size_of(owner))
        result = __context.call(__obj, *args, **kwargs)
        work.spend(size_of(result))
        return result

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        work = work_of(context)
        if isinstance(left, int | float) and isinstance(right, int | float):
            work.spend(_bits_of(operator, left, right) // 8)
        elif operator == "+":
            work.make_text(size_of(left) + size_of(right))
        elif operator == "*":
            _, times = sorted((left, right), key=lambda one: isinstance(one, int))
            work.make_text(size_of(left if times is right else right) * max(0, times if isinstance(times, int) else 0))
        elif operator in ("%", "**") and isinstance(left, str):
            raise SecurityError(f"{operator} does not work on text; join texts with ~")
        return super().call_binop(context, operator, left, right)


@pass_context
def _finalize(context: Context, value: Any) -> str:
    return text_of(value, work_of(context))


def _bits_of(operator: str, left: float, right: float) -> int:
    """How long the numbers are that the operator takes and makes. Raises TooMuch: a division may be of long ones too,
    such as a text read as a hexadecimal number."""
    bits = max(one.bit_length() for one in (left, right, 0) if isinstance(one, int))
    if isinstance(left, int) and isinstance(right, int):  # floats overflow by themselves
        if operator == "*":
            bits = left.bit_length() + right.bit_length()
        elif operator == "**":
            bits = max(bits, left.bit_length() * max(0, right))
    if bits > MAX_INT_BITS:
        raise TooMuch(f"{operator} has or makes a number of {bits} bits, more than {MAX_INT_BITS}")
    return bits


class _Guard(NodeTransformer):
    """Refuses what is not known to be harmless, and puts the accounting filters in."""

    def __init__(self, environment: PromptEnvironment) -> None:
        self._environment = environment

    def generic_visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> nodes.Node:
        if isinstance(node, nodes.Stmt) and not isinstance(node, _STATEMENTS):
            raise _refused(f"{{% {type(node).__name__.lower()} %}} is not available in a prompt", node)
        return super().generic_visit(node, *args, **kwargs)

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - named by Jinja
        if node.recursive:
            raise _refused("recursive loops are not available in a prompt", node)
        self.generic_visit(node)
        inside = sum(1 for one in node.body for _ in one.find_all(nodes.Node))
        node.iter = _filtered(STEPS, node.iter, nodes.Const(1 + inside // _NODES_A_STEP))
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filtered(TEXT, nodes.List(node.nodes, lineno=node.lineno))

    def visit_Assign(self, node: nodes.Assign) -> nodes.Node:  # noqa: N802
        _check_assigned(node.node)
        return self.generic_visit(node)

    def visit_With(self, node: nodes.With) -> nodes.Node:  # noqa: N802
        for value in node.values:
            _check_assigned(value)
        return self.generic_visit(node)

    def visit_Name(self, node: nodes.Name) -> nodes.Node:  # noqa: N802
        if node.ctx != "load" and node.name in FUNCTIONS:
            raise _refused(f"{node.name!r} is a function and cannot be assigned", node)
        return node

    def visit_Filter(self, node: nodes.Filter) -> nodes.Node:  # noqa: N802
        if node.name not in self._environment.filters:
            known = ", ".join(sorted(name for name in self._environment.filters if name.isidentifier()))
            raise _refused(f"the filter {node.name!r} is not available in a prompt; there are {known}", node)
        return self.generic_visit(node)

    def visit_Call(self, node: nodes.Call) -> nodes.Node:  # noqa: N802
        target = node.node
        if isinstance(target, nodes.Getattr):
            if target.attr not in METHODS:
                raise _refused(f"the method {target.attr!r} is not available in a prompt", node)
        elif not (isinstance(target, nodes.Name) and target.name in FUNCTIONS):
            raise _refused("only range() and methods of values can be called in a prompt", node)
        return self.generic_visit(node)


def _check_assigned(value: nodes.Node) -> None:
    """A list of a list of a list doubles with each assignment, until comparing two of them never ends."""
    containers = (nodes.List, nodes.Tuple, nodes.Dict)
    inside = [value] if isinstance(value, containers) else value.find_all(containers)
    if any(any(container.find_all(nodes.Name)) for container in inside):
        raise _refused("a list or mapping with variables in it cannot be assigned in a prompt", value)


def _filtered(name: str, node: nodes.Node, *arguments: nodes.Expr) -> nodes.Filter:
    # Jinja's own annotation of a loop's iterable is too wide: it is an expression.
    return nodes.Filter(cast("nodes.Expr", node), name, list(arguments), [], None, None, lineno=node.lineno)


def _refused(message: str, node: nodes.Node) -> TemplateSyntaxError:
    return TemplateSyntaxError(message, node.lineno)
