"""Answers for those who ask for JSON: a small document that fits the schema they give."""

from __future__ import annotations

from typing import Any, Final

from promptmill import jsontext
from promptmill.jsontext import JSON
from promptmill_simulator.answers import Answer, AnswerSource
from promptmill_simulator.task import CHARACTERS_PER_TOKEN, Task, count_tokens

_DEEPEST: Final = 12


class JsonAnswers:
    """Answers with JSON when the question asks for it, and passes every other question on."""

    def __init__(self, otherwise: AnswerSource) -> None:
        self._otherwise = otherwise

    async def answer(self, task: Task, choice: int) -> Answer:
        plain = await self._otherwise.answer(task, choice)
        wanted = _wanted(task.body)
        if wanted is None:
            return plain
        text = jsontext.encode(_Filler(wanted, plain.text).fill(wanted)).decode()
        limit = task.max_output_tokens
        if limit is not None and count_tokens(text) > limit:
            return Answer(text[: limit * CHARACTERS_PER_TOKEN], "length", task.input_tokens, limit)
        return Answer(text, "stop", task.input_tokens, count_tokens(text))


def _wanted(body: dict[str, Any]) -> dict[str, Any] | None:
    """The schema asked for, of chat (``response_format``) or responses (``text.format``); None when text is."""
    form = body.get("response_format")
    if form is None and isinstance(body.get("text"), dict):
        form = body["text"].get("format")
    if not isinstance(form, dict):
        return None
    if form.get("type") == "json_object":
        return {"type": "object", "properties": {"answer": {"type": "string"}}}
    if form.get("type") != "json_schema":
        return None
    inner = form.get("json_schema", form)
    schema = inner.get("schema") if isinstance(inner, dict) else None
    return schema if isinstance(schema, dict) else {}


class _Filler:
    """Makes a value for each part of a schema. Knows the words of the strict subset; others it leaves unheeded."""

    def __init__(self, root: dict[str, Any], words: str) -> None:
        self._root = root
        self._words = words

    def fill(self, schema: JSON, depth: int = 0) -> JSON:
        if not isinstance(schema, dict) or depth > _DEEPEST:
            return None
        if "$ref" in schema:
            return self.fill(self._resolved(schema["$ref"]), depth + 1)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return schema["enum"][len(self._words) % len(schema["enum"])]
        for choice in ("anyOf", "oneOf", "allOf"):
            if schema.get(choice):
                return self.fill(self._shallowest(schema[choice], depth), depth + 1)
        return self._of_type(schema, depth)

    def _of_type(self, schema: dict[str, Any], depth: int) -> JSON:
        kind = schema.get("type", "object" if "properties" in schema else "string")
        if isinstance(kind, list):
            kind = kind[0]
        if kind == "object":
            return {name: self.fill(part, depth + 1) for name, part in schema.get("properties", {}).items()}
        if kind == "array":
            least = schema.get("minItems", 0 if depth > _DEEPEST // 2 else 1)
            return [self.fill(schema.get("items", {}), depth + 1) for _ in range(least)]
        if kind in ("integer", "number"):
            return self._number(schema, int if kind == "integer" else float)
        if kind == "string":
            text = self._words.ljust(schema.get("minLength", 0), "x")
            return text[: schema.get("maxLength", len(text))]
        return True if kind == "boolean" else None

    def _number(self, schema: dict[str, Any], kind: type[int] | type[float]) -> float:
        lowest = schema.get("minimum", schema.get("exclusiveMinimum", 0) + ("exclusiveMinimum" in schema))
        highest = schema.get("maximum", lowest + 9)
        return kind(min(lowest + len(self._words) % 10, highest))

    def _shallowest(self, choices: list[JSON], depth: int) -> JSON:
        """The first choice; deep down one that ends there, so that recursive schemas do."""
        if depth > _DEEPEST // 2:
            return next((part for part in choices if isinstance(part, dict) and part.get("type") == "null"), choices[0])
        return choices[0]

    def _resolved(self, reference: object) -> JSON:
        found: JSON = self._root
        for part in str(reference).removeprefix("#").strip("/").split("/"):
            if part:
                found = found.get(part) if isinstance(found, dict) else None
        return found
