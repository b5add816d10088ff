"""The public names: complete, sorted, documented, and quick to import."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = ROOT / "src" / "promptmill"
REFERENCE = ROOT / "docs" / "reference"

PACKAGES = ["promptmill", "promptmill.http", "promptmill.testing"] + [
    path.parent.name for path in sorted(ROOT.glob("plugins/*/src/*/__init__.py"))
]
MODULES = sorted(
    f"promptmill.{path.stem}" for path in CORE.iterdir() if path.suffix == ".py" and not path.stem.startswith("_")
)

HEAVY = ("aiohttp", "genai_prices", "httpx", "jinja2", "pyarrow", "pytest", "rich", "ruamel.yaml", "typer")
"""Not needed before something is opened, read or printed."""


def directives() -> set[str]:
    """The names the reference has a ``::: name`` directive for."""
    pages = [path.read_text(encoding="utf-8") for path in REFERENCE.rglob("*.md")]
    return {name for page in pages for name in re.findall(r"^::: (\S+)$", page, re.MULTILINE)}


def presented(package: str) -> set[str]:
    """The names that the ``__init__`` of a package imports from its own modules."""
    path = Path(str(importlib.import_module(package).__file__))
    return {
        alias.asname or alias.name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(package)
        for alias in node.names
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_all_is_complete_and_sorted(package: str) -> None:
    names: list[str] = importlib.import_module(package).__all__
    assert set(names) == presented(package)
    # Constants, classes, functions: the order the linter keeps.
    assert names == sorted(names, key=lambda name: (not name.isupper(), not name[0].isupper(), name))


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_says_what_it_is(package: str) -> None:
    module = importlib.import_module(package)
    things = {name: getattr(module, name) for name in module.__all__}
    assert [name for name, thing in things.items() if callable(thing) and not (thing.__doc__ or "").strip()] == []


@pytest.mark.parametrize("name", ["promptmill.http", "promptmill.testing", *MODULES])
def test_every_public_module_is_in_the_reference(name: str) -> None:
    assert name in directives() or any(found.startswith(f"{name}.") for found in directives())


def test_every_name_of_the_package_is_in_the_reference() -> None:
    package = importlib.import_module("promptmill")
    found = directives()
    homes = {name: getattr(package, name).__module__ for name in package.__all__}
    missing = [
        name for name, home in homes.items() if not {f"promptmill.{name}", f"{home}.{name}", home}.intersection(found)
    ]
    assert missing == []


@pytest.mark.parametrize("name", ["promptmill", "promptmill.http", "promptmill.options", "promptmill.hookspecs"])
def test_importing_is_light(name: str) -> None:
    program = f"import sys, {name}; print(*(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.split() == []
