"""A YAML file as plain data that remembers where everything stands.

The file is composed to nodes and built here, so that positions are exact and nothing but plain data can come of it:
no tags, no duplicate keys, no alias bombs. YAML 1.2: ``no`` is a text and ``12:30`` is one too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from promptmill.errors import JobError, Location

MAX_BYTES: Final = 1024 * 1024
MAX_ALIASES: Final = 50
MAX_DEPTH: Final = 50

KeyPath: TypeAlias = tuple[str | int, ...]

_TAG: Final = "tag:yaml.org,2002:"


class Document:
    """``data`` is what the file says; :meth:`locate` tells where it says it."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self._lines = text.split("\n")
        self._keys: dict[KeyPath, Node] = {}
        self._values: dict[KeyPath, Node] = {}
        self._seen: set[int] = set()
        self._aliases = 0
        self.data = self._build(self._compose(text), ())

    @classmethod
    def read(cls, path: Path) -> Document:
        """Read a file. Raises JobError naming the file, and line and column where there is one."""
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise JobError(
                f"the job file {str(path)!r} cannot be read: {error.strerror}",
                code="E0201",
                hint="`promptmill init` writes a job file to start from",
            ) from error
        if len(raw) > MAX_BYTES:
            raise JobError(f"the job file {str(path)!r} is larger than {MAX_BYTES} bytes", code="E0202")
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise JobError(f"the job file {str(path)!r} is not UTF-8 (byte {error.start})", code="E0202") from error
        return cls(path, text.replace("\r\n", "\n"))

    def locate(self, path: KeyPath, *, key: bool = False) -> Location:
        """Where the value at ``path`` stands (``key``: where its key does). Falls back to the nearest parent."""
        for length in range(len(path), -1, -1):
            nodes = self._keys if key and length == len(path) else self._values
            node = nodes.get(path[:length])
            if node is not None:
                return self._location(node)
        return Location(str(self.path))

    def _location(self, node: Node) -> Location:
        start, end = node.start_mark, node.end_mark
        source = self._lines[start.line] if start.line < len(self._lines) else ""
        same_line = end.line == start.line and isinstance(node, ScalarNode)
        length = end.column - start.column if same_line else len(source.rstrip()) - start.column
        return Location(str(self.path), start.line + 1, start.column + 1, max(length, 1), source)

    def _compose(self, text: str) -> Node | None:
        try:
            return YAML(typ="safe", pure=True).compose(text)  # type: ignore[no-any-return]
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            where = Location(str(self.path))
            if mark is not None:
                line = min(mark.line, len(self._lines) - 1)
                where = Location(str(self.path), line + 1, mark.column + 1, 1, self._lines[line])
            raise JobError(f"not valid YAML: {error.problem or error.context}", code="E0202", location=where) from error
        except (YAMLError, ValueError, RecursionError) as error:
            raise JobError(f"{str(self.path)!r} is not valid YAML: {error}", code="E0202") from error

    def _build(self, node: Node | None, path: KeyPath) -> Any:
        if node is None:
            return None
        if len(path) > MAX_DEPTH:
            raise self._error("nested too deeply", node)
        self._values[path] = node
        self._count_alias(node)
        if isinstance(node, MappingNode):
            self._require_tag(node, "map")
            return self._mapping(node, path)
        if isinstance(node, SequenceNode):
            self._require_tag(node, "seq")
            return [self._build(child, (*path, index)) for index, child in enumerate(node.value)]
        return self._scalar(node)

    def _mapping(self, node: MappingNode, path: KeyPath) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                raise self._error("a key must be a plain text", key_node)
            key = str(key_node.value)
            if key in data:
                raise self._error(f"the key {key!r} is given twice", key_node)
            self._keys[*path, key] = key_node
            data[key] = self._build(value_node, (*path, key))
        return data

    def _scalar(self, node: Node) -> Any:
        kind = str(node.tag).removeprefix(_TAG)
        text = str(node.value)
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        try:
            if kind == "int":
                return int(text.replace("_", ""), 0) if not text.lstrip("+-").startswith("0o") else int(text, 8)
            if kind == "float":
                return float(text.replace("_", "").replace(".inf", "inf").replace(".nan", "nan"))
        except ValueError:
            return text
        if kind in ("str", "timestamp"):
            return text
        raise self._error(f"the tag {node.tag!r} is not allowed here; write plain values", node)

    def _require_tag(self, node: Node, kind: str) -> None:
        if str(node.tag) != _TAG + kind:
            raise self._error(f"the tag {node.tag!r} is not allowed here; write plain values", node)

    def _count_alias(self, node: Node) -> None:
        if node.anchor is None:
            return
        self._aliases += id(node) in self._seen
        self._seen.add(id(node))
        if self._aliases > MAX_ALIASES:
            raise self._error(f"more than {MAX_ALIASES} aliases", node)

    def _error(self, message: str, node: Node) -> JobError:
        return JobError(message, code="E0202", location=self._location(node))
