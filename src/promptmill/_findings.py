"""What a look at every row of the input finds: mistakes, each told once, unused columns, prompts that are alike."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from promptmill._template import InputTemplate, looks_like_asking
from promptmill.errors import InputError, Location, Problem
from promptmill.models import BadRow, Origin, Request, Row

MOST_PROBLEMS: Final = 5
"""Mistakes, or rows, named when there are many."""

MOST_COLUMNS: Final = 20
"""Columns named."""

_MOST_KINDS: Final = 1000
"""Kinds of rows looked at: each may have other columns."""

FATAL: Final = frozenset({"template", "template_null", "missing_column", "bad_params"})
"""Codes of bad rows that mean the job is wrong rather than the row: they refuse the run before anything is sent."""

_UNDEFINED: Final = re.compile(r"'([^']*)' is undefined|no column '([^']*)'")


class _Mistake(msgspec.Struct):
    first: BadRow
    columns: tuple[str, ...]
    count: int = 0


class Findings:
    """Gathers them row by row. ``places`` says where the templates stand in the job file."""

    def __init__(self, template: InputTemplate, places: Mapping[str, Location]) -> None:
        self._template = template
        self._places = places
        self._mistakes: dict[tuple[str, str, str | None], _Mistake] = {}
        self._fatal = 0
        self._kinds: set[tuple[object, ...]] = set()
        self._unused: set[str] = set()
        self._asking: set[str] = set()
        self._columns: set[str] = set()
        self._first: Request | None = None
        self._empty = 0
        self._are_alike = True
        self._alike = 0
        self.first_bad: dict[str, str] = {}
        """By code of a bad row that ends as a failed record: the first of them."""

    def look(self, row: Row | BadRow, made: Request | BadRow) -> None:
        """Take note of one row and what became of it."""
        if isinstance(row, Row):
            self._look_at_columns(row)
            self._empty += not any(row.columns.values()) and all(one in ("", None) for one in row.columns.values())
        if isinstance(made, BadRow):
            if made.code in FATAL:
                self._note_mistake(made, tuple(row.columns) if isinstance(row, Row) else ())
            else:
                self.first_bad.setdefault(made.code, f"{_place(made.origin)}: {made.message}")
            return
        first = self._first = self._first or made
        if self._are_alike:
            self._are_alike = made.messages == first.messages and made.params == first.params
            self._alike += self._are_alike

    def _look_at_columns(self, row: Row) -> None:
        """What becomes of columns depends on their names and on little else, so each kind of row is looked at once."""
        columns = row.columns
        kind = (tuple(columns), *self._template.kind_of(columns))
        if kind not in self._kinds and len(self._kinds) < _MOST_KINDS:
            self._kinds.add(kind)
            self._unused |= self._template.unused(columns)
            self._asking |= self._template.asking(columns)
            self._columns |= columns.keys()

    def _note_mistake(self, bad: BadRow, columns: tuple[str, ...]) -> None:
        self._fatal += 1
        key = (bad.code, bad.message, bad.origin.file)
        if key not in self._mistakes and len(self._mistakes) < MOST_PROBLEMS:
            self._mistakes[key] = _Mistake(bad, columns)
        if key in self._mistakes:
            self._mistakes[key].count += 1

    def refuse(self, total: int) -> None:
        """Raise InputError when the job is wrong: a template fails (E0310), or columns stand in single braces
        (E0312)."""
        if self._mistakes:
            problems = tuple(self._problem(one, total) for one in self._mistakes.values())
            raise InputError(f"the templates fail on {self._fatal:,} of {total:,} rows", problems=problems)
        if self._template.is_constant and (braced := self._braced()):
            raise InputError(
                f"the prompt has {_in(braced, '{', '}')} in single braces, which are sent as they stand: "
                "it is the same for all rows",
                code="E0312",
                hint=f"did you mean {_in(braced, '{{ ', ' }}')}? To send braces: {{{{ '{{{braced[0]}}}' }}}}",
                location=next((place for key, place in self._places.items() if key.startswith(_PROMPTS)), None),
            )

    def _braced(self) -> list[str]:
        """Columns that stand in single braces in the prompt."""
        return sorted(self._template.braced & self._columns)

    def notes(self, total: int) -> Iterator[str]:
        """What is odd, and may be meant."""
        if total > 1 and self._alike == total:
            yield f"all {total:,} prompts are the same"
        if self._empty:
            yield f"{self._empty:,} of {total:,} rows are empty in all their columns"
        if braced := self._braced():
            yield f"{_in(braced, '{', '}')} is sent as it stands; a column is written {_in(braced, '{{ ', ' }}')}"
        if self._asking:
            yield f"sent as parameters of their rows: the columns {_named(sorted(self._asking))}"
        if ignored := sorted(filter(looks_like_asking, self._unused)):
            yield f"not sent: the columns {_named(ignored)}; parameters belong into `params` of the job or of a row"

    def unused(self) -> list[str]:
        """The columns that nothing uses, sorted."""
        return sorted(self._unused)

    def _problem(self, mistake: _Mistake, total: int) -> Problem:
        bad, columns = mistake.first, mistake.columns
        place = self._places.get(bad.key or "")
        where = f"{mistake.count:,} of {total:,} rows, the first is {_place(bad.origin)}"
        hint = _hint(bad, columns) or "correct the template in the job file, or the row"
        return Problem("E0310", f"{bad.message} ({where})", place or _location(bad.origin), hint)


_PROMPTS: Final = ("prompt", "messages")


def _hint(bad: BadRow, columns: tuple[str, ...]) -> str | None:
    """The columns there are, and the one that may be meant."""
    missing = _UNDEFINED.search(bad.message)
    if not columns or not (missing or bad.code == "missing_column"):
        return None
    source = bad.origin.file or "the row"
    plural = "the columns of {} are {}" if len(columns) > 1 else "the only column of {} is {}"
    hint = plural.format(source, _named(columns))
    if len(columns) == 1 and (found := re.search(r"[;\t|,]", columns[0])):
        return f"{hint}: is the delimiter {found[0]!r}? say it with `delimiter`"
    name = (missing[1] or missing[2]) if missing else "prompt"
    if close := _close(name, columns):
        meant = "{{ " + close + " }}" if close.isidentifier() else "{{ row[" + repr(close) + "] }}"
        return f"{hint}; did you mean {meant if bad.key else repr(close)}?"
    return hint


def _close(name: str, columns: Iterable[str]) -> str | None:
    by_folded = {column.strip().casefold(): column for column in columns}
    close = difflib.get_close_matches(name.strip().casefold(), list(by_folded), 1)
    return by_folded[close[0]] if close else None


def _named(columns: Iterable[str]) -> str:
    names = list(columns)
    shown = ", ".join(map(repr, names[:MOST_COLUMNS]))
    return shown if len(names) <= MOST_COLUMNS else f"{shown} and {len(names) - MOST_COLUMNS} more"


def _in(names: Iterable[str], opening: str, closing: str) -> str:
    return " and ".join(opening + name + closing for name in names)


def _place(origin: Origin) -> str:
    return str(_location(origin) or "in the input")


def _location(origin: Origin) -> Location | None:
    return Location(origin.file, origin.line) if origin.file else None
