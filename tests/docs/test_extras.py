"""The front page lists every extra a user can install."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_extra_is_listed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    extras = set(project["tool"]["hatch"]["metadata"]["hooks"]["custom"]["extras"]) - {"dev"}
    page = (ROOT / "docs" / "index.md").read_text("utf-8")
    assert set(re.findall(r"^\| `([a-z]+)` \|", page, re.MULTILINE)) == extras
