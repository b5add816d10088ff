"""Lines of a job file as messages may quote them: without what may be a secret."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_SECRET_KEY: Final = re.compile(
    r"""(?ix)
    (?<![\w-]) (?: (?: [\w-]*[_-] )? (?:api)?key
                | [\w-]*? (?: secret | passw(?:or)?d | passphrase | token | authorization | credentials? ) )
    ["']? \s* : (?!//) \s*
    """
)
"""A key that names a secret, up to its value. Not ``max_tokens``: a limit is none."""

_REFERENCE: Final = re.compile(r"""["']?(?:env:[A-Za-z_][A-Za-z0-9_]*["']?\s*(?:[,}\]#]|$)|file:)""")
_FLOW_VALUE: Final = re.compile(r""""(?:[^"\\]|\\.)*"?|'[^']*'?|[^,}\]]*""")


def masked(line: str, spans: Iterable[tuple[int, int]] = ()) -> str:
    """``line`` with an asterisk for each character of ``spans``, and of values whose keys name secrets.

    References such as ``env:NAME`` stay. Columns do not move.
    """
    covered = [False] * len(line)
    for start, end in (*spans, *_suspects(line)):
        for at in range(max(start, 0), min(end, len(line))):
            covered[at] = not line[at].isspace()
    return "".join("*" if hide else char for char, hide in zip(line, covered, strict=True))


def _suspects(line: str) -> Iterable[tuple[int, int]]:
    for found in _SECRET_KEY.finditer(line):
        if _REFERENCE.match(line, found.end()):
            continue
        in_flow = re.search(r"[{\[,]", line[: found.start()])
        value = _FLOW_VALUE.match(line, found.end()) if in_flow else None
        yield found.end(), value.end() if value else len(line)
