"""A YAML file as plain data that remembers where everything stands.

Built from the parser's events, so that positions are exact and nothing but plain data can come of it: no tags, no
duplicate keys, no alias bombs, and a bomb is refused before it is unpacked. YAML 1.2, core schema: ``no`` is a text
and ``12:30`` is one too.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NoReturn, TypeAlias

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    DocumentStartEvent,
    Event,
    MappingStartEvent,
    ScalarEvent,
    StreamEndEvent,
)

from promptmill._config.masking import masked, may_be_secret
from promptmill._config.scalars import plain_value
from promptmill.errors import JobError, Location

MAX_BYTES: Final = 1024 * 1024
MAX_ALIASES: Final = 50
MAX_DEPTH: Final = 50

KeyPath: TypeAlias = tuple[str | int, ...]


class Span(msgspec.Struct, frozen=True):
    """A stretch of the text, in characters from its start."""

    start: int
    end: int


class _Anchored(msgspec.Struct, frozen=True):
    data: Any
    aliases: int
    """How many aliases were unpacked to build it, nested ones included."""


class Document:
    """``data`` is what the file says; :meth:`locate` tells where it says it."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self._text = text
        self._keys: dict[KeyPath, Span] = {}
        self._values: dict[KeyPath, Span] = {}
        self._anchors: dict[str, _Anchored] = {}
        self._hidden: list[Span] = []
        self._aliases = 0
        self.data = self._read()

    @classmethod
    def read(cls, path: Path) -> Document:
        """Read a file. Raises JobError naming the file, and line and column where there is one."""
        where = Location(str(path))
        try:
            with path.open("rb") as file:
                raw = file.read(MAX_BYTES + 1)
        except (OSError, ValueError) as error:
            raise JobError(
                f"the job file {str(path)!r} cannot be read: {getattr(error, 'strerror', None) or error}",
                code="E0201",
                hint="`promptmill init` writes a job file to start from",
                location=where,
            ) from error
        if len(raw) > MAX_BYTES:
            raise JobError(f"the job file is larger than {MAX_BYTES} bytes", code="E0202", location=where)
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
            column = len(raw[raw.rfind(b"\n", 0, error.start) + 1 : error.start].decode("utf-8", "replace")) + 1
            where = Location(str(path), line, column)
            hint = "save the file as UTF-8"
            raise JobError("the job file is not UTF-8", code="E0202", location=where, hint=hint) from error
        return cls(path, text.replace("\r\n", "\n").replace("\r", "\n"))

    def locate(self, path: KeyPath, *, key: bool = False) -> Location:
        """Where the value at ``path`` stands (``key``: where its key does). Falls back to the nearest parent."""
        for length in range(len(path), -1, -1):
            spans = self._keys if key and length == len(path) else self._values
            span = spans.get(path[:length])
            if span is not None:
                return self._location(span)
        return Location(str(self.path))

    def hide(self, path: KeyPath) -> None:
        """Never quote the value at ``path``: it may be a secret."""
        if path in self._values:
            self._hidden.append(self._values[path])

    def _location(self, span: Span) -> Location:
        """Lines end at newline bytes only, as editors and the shell count them."""
        start = min(span.start, len(self._text))
        line_start = self._text.rfind("\n", 0, start) + 1
        line_end = self._text.find("\n", start)
        line = self._text[line_start : line_end if line_end >= 0 else len(self._text)]
        column = start - line_start
        # An underlined value of many lines is underlined to the end of its first.
        end = min(span.end - line_start, len(line.rstrip()))
        hidden = [(one.start - line_start, one.end - line_start) for one in self._hidden]
        number = self._text.count("\n", 0, start) + 1
        return Location(str(self.path), number, column + 1, max(end - column, 1), masked(line, hidden))

    def _read(self) -> Any:
        events = self._events()
        next(events)
        if isinstance(next(events), StreamEndEvent):
            self._values[()] = Span(0, 0)
            return None
        data = self._build(next(events), events, ())
        next(events)
        after = next(events)
        if isinstance(after, DocumentStartEvent):
            self._refuse("more than one document in the file", _span(after))
        return data

    def _events(self) -> Iterator[Event]:
        reached = 0
        try:
            for event in YAML(typ="safe", pure=True).parse(self._text):
                reached = event.end_mark.index
                yield event
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            at = len(self._text) if mark is None else mark.index
            self._refuse(f"not valid YAML: {error.problem or error.context}", Span(at, at + 1), error)
        except YAMLError as error:
            at = getattr(error, "position", 0)
            reason = getattr(error, "reason", None) or type(error).__name__
            self._refuse(f"not valid YAML: {reason}", Span(at, at + 1), error)
        except Exception as error:  # noqa: BLE001 - the parser trips over odd texts, such as "\\U99999999"
            self._refuse("not valid YAML from here on", Span(reached, reached + 1), error)

    def _build(self, event: Any, events: Iterator[Event], path: KeyPath) -> Any:
        span = self._values[path] = _span(event)
        if len(path) > MAX_DEPTH:
            self._refuse("nested too deeply", span)
        if isinstance(event, AliasEvent):
            return self._alias(event, span)
        self._refuse_tag(event)
        aliases = self._aliases
        if isinstance(event, ScalarEvent):
            data = self._scalar(event, span)
            if may_be_secret(path, str(data)):
                self._hidden.append(span)
        elif isinstance(event, MappingStartEvent):
            data = self._mapping(events, path)
        else:
            data = self._sequence(events, path)
        if event.anchor is not None:
            self._anchors[event.anchor] = _Anchored(data, self._aliases - aliases)
        return data

    def _mapping(self, events: Iterator[Event], path: KeyPath) -> dict[str, Any]:
        data: dict[str, Any] = {}
        while not isinstance(event := next(events), CollectionEndEvent):
            if not isinstance(event, ScalarEvent):
                self._refuse("a key must be a plain text", _span(event))
            self._refuse_tag(event)
            key = str(event.value)
            if key in data:
                self._refuse(f"the key {key!r} is given twice", _span(event))
            self._keys[*path, key] = _span(event)
            value = next(events)
            data[key] = self._build(value, events, (*path, key))
            if isinstance(value, ScalarEvent) and value.start_mark.index == value.end_mark.index:
                # Nothing was written, and the parser looks for it on the lines below.
                self._values[*path, key] = _span(event)
        self._values[path] = Span(self._values[path].start, event.end_mark.index)
        return data

    def _sequence(self, events: Iterator[Event], path: KeyPath) -> list[Any]:
        data: list[Any] = []
        while not isinstance(event := next(events), CollectionEndEvent):
            data.append(self._build(event, events, (*path, len(data))))
        self._values[path] = Span(self._values[path].start, event.end_mark.index)
        return data

    def _scalar(self, event: ScalarEvent, span: Span) -> Any:
        if event.style is not None:
            return str(event.value)
        try:
            return plain_value(str(event.value))
        except ValueError:
            self._refuse("a number with too many digits", span)

    def _alias(self, event: AliasEvent, span: Span) -> Any:
        anchored = self._anchors.get(str(event.anchor))
        if anchored is None:
            self._refuse("an alias of something that is not defined before it", span)
        self._aliases += 1 + anchored.aliases
        if self._aliases > MAX_ALIASES:
            self._refuse(f"more than {MAX_ALIASES} aliases", span)
        return anchored.data

    def _refuse_tag(self, event: Any) -> None:
        if event.tag is not None:
            self._refuse("a tag is not allowed here; write plain values", _span(event))

    def _refuse(self, message: str, span: Span, cause: Exception | None = None) -> NoReturn:
        raise JobError(message, code="E0202", location=self._location(span)) from cause


def _span(event: Event) -> Span:
    return Span(event.start_mark.index, max(event.end_mark.index, event.start_mark.index + 1))
