"""Every error code has a line in the reference, and no line is about a code that is gone."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "error-codes.md"


def used() -> set[str]:
    sources = [*(ROOT / "src").rglob("*.py"), *(ROOT / "plugins").glob("*/src/**/*.py")]
    return {code for file in sources for code in re.findall(r'"(E\d{4})"', file.read_text("utf-8"))}


def documented() -> list[str]:
    return re.findall(r"^\| (E\d{4}) \|", PAGE.read_text("utf-8"), re.MULTILINE)


def test_every_code_is_documented() -> None:
    assert used() - set(documented()) == set(), f"add them to {PAGE.name}"


def test_no_documented_code_is_gone() -> None:
    assert set(documented()) - used() == set()


def test_codes_are_sorted_and_stand_once() -> None:
    assert documented() == sorted(set(documented()))
