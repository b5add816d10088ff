"""Who may import whom. The ladder is in pyproject.toml; here stand the rules about names and third parties."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = ROOT / "src" / "promptmill"
ROOMS = ("sources", "sinks", "conditions", "policies")
PLUGIN_SOURCES = sorted(ROOT.glob("plugins/*/src"))

PUBLIC = {
    "batch",
    "clock",
    "errors",
    "files",
    "hookspecs",
    "http",
    "interfaces",
    "jsontext",
    "models",
    "options",
    "secrets",
}
"""What a component may import of promptmill: a built-in one no more than a stranger's."""

DOORS = {
    "aiohttp": {"promptmill.http"},
    "aiolimiter": {"promptmill._ratecap"},
    "duckdb": {"promptmill.sinks.duckdb"},
    "genai_prices": {"promptmill._pricing"},
    "httpx": {"promptmill.http"},
    "jinja2": {"promptmill._template"},
    "pluggy": {"promptmill._registry", "promptmill.hookspecs"},
    "psycopg": {"promptmill.sinks.postgres"},
    "pyarrow": {"promptmill.sinks.parquet"},
    "pytest": {"promptmill.testing"},
    "rich": {"promptmill.cli"},
    "ruamel": {"promptmill._config"},
    "sqlite3": {"promptmill._cache", "promptmill._journal", "promptmill.sinks.sqlite"},
    "typer": {"promptmill.cli"},
    "uvloop": {"promptmill._eventloop"},
}
"""One dependency, one door: the parts of promptmill that may import it."""

RELUCTANT = {"_registry", "_template", "_journal", "_pricing"}
"""Engine parts that are there to keep a third party behind them, so the purity of the others is not asked of them."""


def module_name(path: Path, base: Path) -> str:
    parts = path.relative_to(base).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> Iterator[str]:
    """Every dotted name a file imports; of ``from a import b`` both ``a`` and ``a.b``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import hides what is imported"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def is_public(name: str) -> bool:
    first, *rest = name.split(".")[1:] or [""]
    return first == "" or (first in PUBLIC and not any(part.startswith("_") for part in rest))


def trespasses(path: Path, own: str) -> list[str]:
    """Imports of a component's file that reach behind the public surface; ``own`` is its own package."""
    return [
        name
        for name in imports_of(path)
        if (within(name, "promptmill") and not within(name, own) and not is_public(name))
        or (name.startswith("promptmill_") and not within(name, own) and "._" in name)
    ]


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_use_only_the_public_surface(room: str) -> None:
    files = sorted((CORE / room).rglob("*.py"))
    assert files
    assert [found for path in files for found in trespasses(path, f"promptmill.{room}")] == []


@pytest.mark.parametrize("source", PLUGIN_SOURCES, ids=lambda path: path.parent.name)
def test_plugins_use_only_the_public_surface(source: Path) -> None:
    files = sorted(source.rglob("*.py"))
    assert files
    assert [found for path in files for found in trespasses(path, path.relative_to(source).parts[0])] == []


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("from promptmill.models import Request", False),
        ("from promptmill import jsontext", False),
        ("from promptmill.http import open_client", False),
        ("from promptmill.http._aiohttp import AiohttpClient", True),
        ("from promptmill import _engine", True),
        ("from promptmill import Pipeline", True),
        ("import promptmill._engine", True),
        ("from promptmill.sinks.jsonl import JsonlSink", True),
        ("from promptmill_other._inside import thing", True),
        ("from promptmill_other import Thing", False),
    ],
)
def test_a_trespass_is_seen(line: str, wrong: bool, tmp_path: Path) -> None:
    path = tmp_path / "component.py"
    path.write_text(line, encoding="utf-8")
    assert bool(trespasses(path, "promptmill.sources")) is wrong


@pytest.mark.parametrize("library", sorted(DOORS))
def test_each_third_party_has_one_door(library: str) -> None:
    strangers = [
        f"{module} imports {name}"
        for path in sorted(CORE.rglob("*.py"))
        if not any(within(module := module_name(path, CORE.parent), door) for door in DOORS[library])
        for name in imports_of(path)
        if within(name, library)
    ]
    assert strangers == []


@pytest.mark.parametrize("source", PLUGIN_SOURCES, ids=lambda path: path.parent.name)
def test_plugins_reach_http_through_promptmill(source: Path) -> None:
    clients = ("aiohttp", "anthropic", "httpx", "openai", "requests", "urllib3")
    found = [
        f"{path.name} imports {name}"
        for path in sorted(source.rglob("*.py"))
        for name in imports_of(path)
        if any(within(name, client) for client in clients)
    ]
    assert found == []


def test_every_engine_part_is_under_the_contract_of_purity() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        ladder, purity = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    layers = ladder["layers"]
    last = next(at for at, layer in enumerate(layers) if "(_ratecap)" in layer)
    rows = layers[layers.index("(_engine)") : last + 1]
    parts = {name.strip().strip("()") for row in rows for name in row.split("|")}
    existing = {name for name in parts if (CORE / f"{name}.py").exists() or (CORE / name).is_dir()}
    assert {f"promptmill.{name}" for name in existing - RELUCTANT} == set(purity["source_modules"])


def test_the_import_contracts_hold() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    done = subprocess.run([*command, "--no-cache"], cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
