"""The JSON Schema of the job file, with the options of every installed component."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel

from promptmill._config.routes import RouteSpec
from promptmill._config.spec import JobSpec, TemplateSpec
from promptmill._registry import Registry

DRAFT_2020: Final = "https://json-schema.org/draft/2020-12/schema"
DRAFT_07: Final = "http://json-schema.org/draft-07/schema#"

Schema = dict[str, Any]


def job_schema(registry: Registry, *, draft: str = DRAFT_2020) -> Schema:
    """Build the schema; imports every installed component. ``draft`` is DRAFT_2020 or DRAFT_07 (for YAML editors)."""
    builder = _Builder(registry)
    schema = builder.schema()
    schema["$schema"] = draft
    return _to_draft_07(schema) if draft == DRAFT_07 else schema


class _Builder:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._defs: dict[str, Schema] = {}

    def schema(self) -> Schema:
        job = self._model(JobSpec, "")
        keys = job["properties"]
        keys["providers"]["additionalProperties"] = self._choice("provider")
        _replace_items(keys["sinks"], self._choice("sink"))
        _replace_items(keys["routes"], self._route())
        keys["retry"]["anyOf"] = [*self._choice("policy", default="exponential")["anyOf"], {"type": "null"}]
        keys["input"] = self._input()
        # What the models cannot say: one place for the results, and routes as soon as there is a choice.
        job["oneOf"] = [{"required": ["output"]}, {"required": ["sinks"]}]
        job["anyOf"] = [{"required": ["routes"]}, {"properties": {"providers": {"maxProperties": 1}}}]
        return {
            "title": "promptmill job",
            "description": "A job file of promptmill.",
            **{key: value for key, value in job.items() if key not in ("title", "description")},
            "$defs": self._defs,
        }

    def _choice(self, kind: str, default: str | None = None) -> Schema:
        """Any component of ``kind``, told apart by ``use``."""
        return {"anyOf": [self._component(kind, name, name == default) for name in self._registry.names(kind)]}

    def _component(self, kind: str, name: str, is_default: bool) -> Schema:
        reference = f"{kind}.{name}"
        if reference not in self._defs:
            schema = self._model(self._registry.get(kind, name), f"{reference}.")
            schema.setdefault("properties", {})["use"] = {"const": name}
            if not is_default:
                schema["required"] = sorted({*schema.get("required", ()), "use"})
            self._defs[reference] = schema
        return {"$ref": f"#/$defs/{reference}"}

    def _input(self) -> Schema:
        template = self._model(TemplateSpec, "input.")["properties"]
        choices = []
        for name in self._registry.names("source"):
            schema = self._model(self._registry.get("source", name), f"source.{name}.")
            schema["properties"] = {"use": {"const": name}, **schema["properties"], **template}
            choices.append(schema)
        return {
            "description": JobSpec.model_fields["input"].description,
            "anyOf": choices,
            "not": {"required": ["prompt", "messages"]},
        }

    def _route(self) -> Schema:
        route = self._model(RouteSpec, "route.")
        conditions: Schema = {"any": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/when"}}}
        conditions["not"] = {"$ref": "#/$defs/when"}
        for name in self._registry.names("condition"):
            conditions[name] = self._condition(name)
        self._defs["when"] = {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": False,
            "properties": conditions,
        }
        route["properties"]["when"] = {"$ref": "#/$defs/when"}
        return route

    def _condition(self, name: str) -> Schema:
        options = self._registry.get("condition", name)
        schema = self._model(options, f"condition.{name}.")
        if options.shorthand is None:
            return schema
        return {"anyOf": [schema["properties"][options.shorthand], schema]}

    def _model(self, model: type[BaseModel], prefix: str) -> Schema:
        """The schema of one model, its definitions moved to ours under names that cannot clash."""
        schema = model.model_json_schema(ref_template=f"#/$defs/{prefix}{{model}}")
        for name, definition in schema.pop("$defs", {}).items():
            self._defs[f"{prefix}{name}"] = definition
        return schema


def _replace_items(schema: Schema, items: Schema) -> None:
    """Say more about the elements of a list that may also be null."""
    for one in schema["anyOf"]:
        if one["type"] == "array":
            one["items"] = items


def _to_draft_07(value: Any) -> Any:
    if isinstance(value, list):
        return [_to_draft_07(one) for one in value]
    if not isinstance(value, dict):
        return value
    changed = {}
    for key, inner in value.items():
        if key == "$ref":
            changed[key] = inner.replace("#/$defs/", "#/definitions/")
        elif key == "prefixItems":
            changed["items"] = _to_draft_07(inner)
        elif key == "items" and "prefixItems" in value:
            changed["additionalItems"] = _to_draft_07(inner)
        else:
            changed["definitions" if key == "$defs" else key] = _to_draft_07(inner)
    return changed
