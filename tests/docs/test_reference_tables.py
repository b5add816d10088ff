"""The tables of the reference are what the code says; every component and every command has one."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from promptmill._registry import Registry

KINDS = ("provider", "source", "sink", "policy", "condition")


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference_tables", Path(__file__).with_name("reference_tables.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_are_in_step(tables: ModuleType) -> None:
    for page in tables.PAGES:
        text = page.read_text("utf-8")
        assert tables.updated(text) == text, f"bring {page.name} up to date: python {tables.__file__}"


@pytest.mark.parametrize("kind", KINDS)
def test_every_component_has_a_table(tables: ModuleType, kind: str) -> None:
    ours = [one.name for one in Registry().installed(kind) if one.distribution.startswith("promptmill")]
    assert {f"{kind}.{name}" for name in ours} <= tables.shown("options")


def test_every_part_of_a_job_has_a_table(tables: ModuleType) -> None:
    assert set(tables.PARTS) <= tables.shown("options")


def test_every_command_has_a_table(tables: ModuleType) -> None:
    assert set(tables.commands()) == tables.shown("command")
