"""Small files are refused growth: lengths, module names, and calls that are never right here."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = [ROOT / "src", *sorted(ROOT.glob("plugins/*/src"))]
FILES = sorted(path for package in PACKAGES for path in package.rglob("*.py"))

MOST_LINES_OF_A_FILE = 400
MOST_LINES_OF_A_FUNCTION = 50

LONGER_FOR_A_REASON: dict[str, str] = {}
"""``path`` or ``path:function`` to the reason why it may be longer."""

WORK_OF_A_PACKAGE = {
    # pytest must be told before the contract classes are imported that their assertions are to be rewritten.
    "src/promptmill/testing/__init__.py": ("_ASSERTING = ", "pytest.register_assert_rewrite("),
}
"""The statements an ``__init__`` may have besides, by how they start."""

NAMES_THAT_SAY_NOTHING = {"base", "common", "helpers", "misc", "util", "utils"}


def short(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def functions_of(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Name and length of each function: its lines without decorators and docstring."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            first = node.body[0]
            if ast.get_docstring(node, clean=False) is not None:
                lines -= (first.end_lineno or first.lineno) - first.lineno + 1
            yield node.name, lines


def test_files_are_short() -> None:
    lengths = {short(path): path.read_bytes().count(b"\n") for path in FILES}
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES_OF_A_FILE} == {
        name: lengths[name] for name in LONGER_FOR_A_REASON if ":" not in name
    }


def test_functions_are_short() -> None:
    lengths = {
        f"{short(path)}:{name}": lines
        for path in FILES
        for name, lines in functions_of(ast.parse(path.read_text(encoding="utf-8")))
        if lines > MOST_LINES_OF_A_FUNCTION
    }
    assert lengths == {name: lengths.get(name) for name in LONGER_FOR_A_REASON if ":" in name}


def test_a_docstring_does_not_count() -> None:
    source = 'def long():\n    """One.\n\n    Two.\n    """\n    return 1\n'
    assert list(functions_of(ast.parse(source))) == [("long", 2)]


def test_modules_are_named_for_what_they_hold() -> None:
    assert [short(path) for path in FILES if path.stem.strip("_") in NAMES_THAT_SAY_NOTHING] == []


def test_every_folder_of_code_is_a_package() -> None:
    folders = {path.parent for path in FILES} - set(PACKAGES)
    assert [short(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


@pytest.mark.parametrize("path", [path for path in FILES if path.name == "__init__.py"], ids=short)
def test_packages_present_and_do_not_work(path: Path) -> None:
    """An ``__init__`` has a docstring, imports and ``__all__``, or PEP 562's two functions to import names late."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    work = [ast.unparse(node) for node in body if not is_presentation(node)]
    assert [line for line in work if not line.startswith(WORK_OF_A_PACKAGE.get(short(path), ()))] == []


def is_presentation(node: ast.stmt) -> bool:
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    if isinstance(node, ast.Assign):
        return ast.unparse(node.targets[0]) in ("__all__", "__version__")
    if isinstance(node, ast.FunctionDef):
        return node.name in ("__getattr__", "__dir__")
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return all(isinstance(inner, ast.ImportFrom) for inner in node.body)
    return isinstance(node, ast.Import | ast.ImportFrom)


def test_text_is_split_on_newline_bytes_only() -> None:
    """``str.splitlines`` also splits on characters that stand inside answers, U+2028 among them."""
    calls = [
        f"{short(path)}:{node.lineno}"
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "splitlines"
    ]
    assert calls == []
