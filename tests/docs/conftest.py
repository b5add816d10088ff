"""Reads the pages of the documentation: what stands in their fenced blocks."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

_FENCE = re.compile(r'^( *)```([a-z]*)(?: title="([^"]+)")?.*$')
_NOT_RUN = re.compile(r"^ *<!-- not run: (.+) -->$")


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """One fenced block. ``not_run`` is the reason given in a comment before it, None when it is run."""

    language: str
    title: str | None
    text: str
    line: int
    not_run: str | None


def _blocks_of(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found: list[Block] = []
    lines = page.read_text("utf-8").split("\n")
    at = 0
    reason: str | None = None
    while at < len(lines):
        fence = _FENCE.match(lines[at])
        if fence is None:
            comment = _NOT_RUN.match(lines[at])
            reason = comment[1] if comment else reason if not lines[at].strip() else None
            at += 1
            continue
        indent, language, title = len(fence[1]), fence[2], fence[3]
        end = next(number for number in range(at + 1, len(lines)) if lines[number].strip() == "```")
        text = "".join(line[indent:] + "\n" for line in lines[at + 1 : end])
        found.append(Block(language=language, title=title, text=text, line=at + 1, not_run=reason))
        at, reason = end + 1, None
    return found


@pytest.fixture
def blocks_of() -> Callable[[Path], list[Block]]:
    return _blocks_of
