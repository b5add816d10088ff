"""Lines of a job file as messages may quote them: without what may be a secret."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from promptmill.secrets import names_a_secret

_SECRET_KEY: Final = re.compile(
    r"""(?ix)
    (?<![\w-]) (?: (?: [\w-]*[_-] )? (?:api)?key
                | [\w-]*? (?: secret | passw(?:or)?d | passphrase | token | authorization | credentials? ) )
    ["']? \s* : (?!//) \s*
    """
)
"""A key that names a secret, up to its value. Not ``max_tokens``: a limit is none."""

_REFERENCE: Final = re.compile(r"""["']?(?:env:[A-Za-z_][A-Za-z0-9_]*["']?\s*(?:[,}\]#]|$)|file:)""")
_USER_INFO: Final = re.compile(r"""//([^\s"']*)@""")
_QUERY: Final = re.compile(r"""//[^\s"'?\#]*[?\#]([^\s"']*)""")
_URL_KEYS: Final = re.compile(r"(?i)(?:.*[_-])?(?:url|uri|proxy|dsn|endpoint)")
_PLAIN_URL: Final = re.compile(r"(?:https?|socks5h?)://[\w.:\[\]-]+(?:/[\w./~-]*)?")
_ALL_PRIVATE: Final = frozenset({"headers"})
"""Keys below which any text may be a secret, whatever its own key is."""
_FLOW_VALUE: Final = re.compile(r""""(?:[^"\\]|\\.)*"?|'[^']*'?|[^,}\]]*""")


def may_be_secret(path: Sequence[str | int], value: str) -> bool:
    """Whether the text at ``path`` of a job file may be a secret, or hold one, by where it stands and how it is made.

    By its place, since what is wrong with it may be just that nothing recognises it.
    """
    if _REFERENCE.match(value):
        return False
    names = [part for part in path if isinstance(part, str)]
    if any(name in _ALL_PRIVATE or names_a_secret(name) for name in names):
        return True
    if names and _URL_KEYS.fullmatch(names[-1]):
        return not _PLAIN_URL.fullmatch(value)
    return bool(_USER_INFO.search(value) or _QUERY.search(value))


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
    for pattern in (_USER_INFO, _QUERY):
        yield from (found.span(1) for found in pattern.finditer(line))
    for found in _SECRET_KEY.finditer(line):
        if _REFERENCE.match(line, found.end()):
            continue
        in_flow = re.search(r"[{\[,]", line[: found.start()])
        value = _FLOW_VALUE.match(line, found.end()) if in_flow else None
        yield found.end(), value.end() if value else len(line)
