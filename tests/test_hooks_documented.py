"""Every hook works, and is documented with its exact arguments."""

from __future__ import annotations

import inspect
import re
import sys
import types
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from promptmill import hookspecs
from promptmill._registry import KINDS, Registry

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "hooks.md"

HOOKS = sorted(
    name for name, thing in vars(hookspecs).items() if inspect.isfunction(thing) and hasattr(thing, "promptmill_spec")
)


def test_there_is_one_hook_for_each_kind() -> None:
    assert sorted(f"register_{kind}" for kind in KINDS) == HOOKS


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_is_documented_with_its_arguments(hook: str) -> None:
    arguments = ", ".join(inspect.signature(getattr(hookspecs, hook)).parameters)
    headings = re.findall(r"^#+ `(register_\w+\([^)]*\))`", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert f"{hook}({arguments})" in headings


def test_no_hook_is_documented_that_is_not_there() -> None:
    assert sorted(re.findall(r"^#+ `(register_\w+)\(", PAGE.read_text(encoding="utf-8"), re.MULTILINE)) == HOOKS


@pytest.mark.parametrize("kind", KINDS)
def test_a_hook_registers_what_a_plugin_offers(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    offer = type("Offer", (), {"kind": kind})

    def implementation(register: Any) -> None:
        register("thing", offer)

    module = types.ModuleType("a_plugin")
    setattr(module, f"register_{kind}", hookspecs.hookimpl(implementation))
    monkeypatch.setitem(sys.modules, "a_plugin", module)
    registry = Registry([EntryPoint(f"{kind}.thing", "a_plugin", hookspecs.ENTRY_POINT_GROUP)])
    assert registry.get(kind, "thing") is offer
