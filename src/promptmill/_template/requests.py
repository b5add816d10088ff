"""How a row of input becomes a request."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from promptmill._template.batchline import (
    LINE_KEYS,
    BadLine,
    BatchLine,
    is_batch_line,
    read_batch_line,
    read_messages,
)
from promptmill._template.body import own_columns, own_params
from promptmill._template.field import BadTemplate, Columns, Field, RenderError
from promptmill._template.limits import NullValue, Work, text_of
from promptmill._template.sandbox import PromptEnvironment
from promptmill.errors import JobError, Problem
from promptmill.jsontext import JSON
from promptmill.models import PRIORITIES, BadRow, Message, Priority, Request, Row

MAX_ID_LENGTH: Final = 512

_ID_COLUMNS: Final = ("custom_id", "id")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class InputTemplate:
    """The ``input`` section of a job, compiled once.

    Args:
        prompt: template of the only message, from the user. Without it and ``messages``, a row's column ``prompt``
            is its text, or its column ``messages`` its list of chat messages.
        messages: role and template of each message.
        id: the column with the id; default ``custom_id``, then ``id``, else the 1-based row number.
        priority: ``urgent``, ``normal``, ``bulk``, or a template that gives one.
        tags: templates; those that come out empty are dropped.
        keep: columns that go into ``meta``.
        params: parameters of every request; a batch line has its own instead. Where the job has no templates, a row's
            ``params``, ``model`` and other members of a request body are added to them and win.

    A null in a prompt is an error (``template_null``), in a tag it is an empty tag.

    Raises:
        JobError: E0210, with a problem for every template that does not compile.
    """

    def __init__(
        self,
        *,
        prompt: str | None = None,
        messages: Sequence[tuple[str, str]] = (),
        id: str | None = None,  # noqa: A002 - the key of the job file
        priority: str | None = None,
        tags: Sequence[str] = (),
        keep: Sequence[str] = (),
        params: Mapping[str, JSON] | None = None,
    ) -> None:
        self._id = id
        self._keep = tuple(keep)
        self._params = dict(params or {})
        compiler = _Compiler()
        given = messages if prompt is None else [("user", prompt)]
        names = ["prompt"] if prompt is not None else [f"messages[{at}].content" for at in range(len(messages))]
        self._messages = [
            (role, compiler.field(name, content)) for name, (role, content) in zip(names, given, strict=True)
        ]
        self._priority = compiler.field("priority", priority or "normal")
        self._tags = [compiler.field(f"tags[{at}]", tag) for at, tag in enumerate(tags)]
        compiler.finish()

    def request_of(self, row: Row, index: int) -> Request | BadRow:
        """The request of the row at the 0-based ``index``, or why there is none.

        Codes: ``template``, ``template_null``, ``missing_column``, ``bad_id``, ``bad_priority``, ``bad_messages``,
        ``bad_params``, ``unsupported_url``, ``unsupported_method``.
        """
        columns = row.columns
        work = Work()
        try:
            line = self._line(columns, work)
            return Request(
                id=self._id_of(columns, index),
                index=index,
                messages=line.messages,
                params=line.params,
                operation=line.operation,
                priority=self._priority_of(columns, work),
                tags=self._tags_of(columns, work),
                meta=self._meta_of(columns),
            )
        except BadLine as error:
            return BadRow(error.code, error.message, row.origin)
        except RenderError as error:
            return BadRow(error.code, error.message, row.origin, error.key)

    @property
    def braced(self) -> frozenset[str]:
        """Names in single braces in the messages."""
        return frozenset[str]().union(*(field.braced for field in self._fields))

    @property
    def is_constant(self) -> bool:
        """Whether the messages are templates without any expression."""
        return bool(self._fields) and all(field.is_constant for field in self._fields)

    def kind_of(self, columns: Columns) -> tuple[bool, ...]:
        """What, besides their names, decides what becomes of the columns of a row."""
        has_messages = isinstance(columns.get("messages"), list)
        return (columns.get("prompt") is None, has_messages, bool(columns.get("model")), is_batch_line(columns))

    def unused(self, columns: Columns) -> frozenset[str]:
        """The columns of a row that nothing uses."""
        named = self._id or next((one for one in _ID_COLUMNS if one in columns), None)
        rest = frozenset(columns).difference(self._keep, () if named is None else (named,))
        if is_batch_line(columns):
            rest -= LINE_KEYS
        elif not self._messages:
            rest -= own_columns(columns) | {"prompt" if columns.get("prompt") is not None else "messages"}
        for field in (*(() if is_batch_line(columns) else self._fields), self._priority, *self._tags):
            if field.columns is None:
                return frozenset()
            rest -= field.columns
        return rest

    def asking(self, columns: Columns) -> frozenset[str]:
        """The columns of a row that are sent as parameters."""
        return frozenset() if self._messages or is_batch_line(columns) else own_columns(columns)

    @property
    def _fields(self) -> list[Field]:
        return [field for _, field in self._messages]

    def _line(self, columns: Columns, work: Work) -> BatchLine:
        if is_batch_line(columns):
            return read_batch_line(columns)
        if self._messages:
            messages = tuple([Message(role, field.render(columns, work)) for role, field in self._messages])
        else:
            messages = _default_messages(columns, work)
            if own := own_params(columns):
                return BatchLine("chat", messages, {**self._params, **own})
        return BatchLine("chat", messages, self._params)

    def _id_of(self, columns: Columns, index: int) -> str:
        name = self._id or next((one for one in _ID_COLUMNS if one in columns), None)
        if name is None:
            return str(index + 1)
        if name not in columns:
            raise BadLine("missing_column", f"the row has no column {name!r}, which `id` names")
        value = columns[name]
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or not value.strip():
            raise BadLine("bad_id", f"the id in column {name!r} is not text or a whole number: {_shown(value)}")
        if len(value) > MAX_ID_LENGTH:
            raise BadLine("bad_id", f"the id in column {name!r} has {len(value)} characters, more than {MAX_ID_LENGTH}")
        if _CONTROL.search(value):
            raise BadLine("bad_id", f"the id in column {name!r} has control characters: {_shown(value)}")
        return value

    def _priority_of(self, columns: Columns, work: Work) -> Priority:
        try:
            value = self._priority.render(columns, work).strip()
        except RenderError as error:
            if error.code != "template_null":
                raise
            value = "null"
        for priority in PRIORITIES:
            if value == priority:
                return priority
        raise BadLine("bad_priority", f"the priority is {_shown(value)}, not urgent, normal or bulk")

    def _tags_of(self, columns: Columns, work: Work) -> tuple[str, ...]:
        tags = []
        for field in self._tags:
            try:
                tags.append(field.render(columns, work).strip())
            except RenderError as error:
                if error.code != "template_null":
                    raise
        return tuple([tag for tag in tags if tag])

    def _meta_of(self, columns: Columns) -> dict[str, JSON]:
        for name in self._keep:
            if name not in columns:
                raise BadLine("missing_column", f"the row has no column {name!r}, which `keep` names")
        return {name: columns[name] for name in self._keep}


class _Compiler:
    """Compiles the templates of a job and gathers what is wrong with them."""

    def __init__(self) -> None:
        self._environment = PromptEnvironment()
        self._problems: list[Problem] = []

    def field(self, name: str, source: str) -> Field:
        try:
            return Field(name, source, self._environment)
        except BadTemplate as error:
            self._problems.append(error.problem)
            return Field(name, "", self._environment)

    def finish(self) -> None:
        if self._problems:
            raise JobError(self._problems[0].message, problems=tuple(self._problems))


def _default_messages(columns: Columns, work: Work) -> tuple[Message, ...]:
    """The messages of a row when the job says nothing about them."""
    prompt = columns.get("prompt")
    if prompt is None and columns.get("messages") is not None:
        return read_messages(columns["messages"], "messages")
    if "prompt" not in columns:
        raise BadLine(
            "missing_column",
            "the row has neither a column 'prompt' nor 'messages'; say what to ask with `input.prompt`",
        )
    if isinstance(prompt, list | dict):
        raise BadLine("template", "the column 'prompt' is not text; say what to ask with `input.prompt`")
    try:
        return (Message("user", text_of(prompt, work)),)
    except NullValue:
        raise BadLine("template_null", "the column 'prompt' is null") from None


def _shown(value: JSON) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
