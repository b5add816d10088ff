"""A desk as for the command line, and worlds as for durability."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def _fixtures_of(folder: str) -> ModuleType:
    name = f"promptmill_tests_{folder}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / folder / "conftest.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


_cli = _fixtures_of("cli")
_durability = _fixtures_of("durability")
desk_for, simulate = _cli.desk_for, _cli.simulate
books, make_world = _durability.books, _durability.make_world
