"""The job file as pydantic models: its fixed part. What components take is validated by their own options classes."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from promptmill._config.naming import NAME_PATTERN
from promptmill.options import Duration

Pluggable = dict[str, Any]
"""``{use: name, ...options}``; validated by the options class registered under the name."""


class _AboveZero:
    """Takes 0 out of the JSON Schema of a duration, as a number and as a text."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        number, text = handler(schema)["anyOf"]
        above = {**number, "exclusiveMinimum": number["minimum"]}
        del above["minimum"]
        return {"anyOf": [above, {**text, "pattern": "^(?=.*[1-9])" + text["pattern"].removeprefix("^")}]}


Deadline = Annotated[Duration, Field(gt=0), _AboveZero()]
"""Seconds from the start of a run; never 0."""


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, populate_by_name=True)


class MessageSpec(_Spec):
    """One message of the prompt; ``content`` is a Jinja2 template over the row's columns."""

    role: str = Field(description="system, user, assistant or whatever the provider takes.")
    content: str = Field(description="A template such as `{{ question }}`.")


class TemplateSpec(_Spec):
    """How a row becomes a request."""

    id: str | None = Field(None, description="The column with the id; default custom_id, then id, else the row number.")
    prompt: str | None = Field(None, description="Template of the user message; default: the column `prompt`.")
    messages: list[MessageSpec] | None = Field(None, min_length=1, description="Templates of all messages.")
    priority: str | None = Field(None, description="urgent, normal or bulk, or a template that gives one.")
    tags: list[str] = Field(default_factory=list, description="Templates of tags that routes can ask for.")
    keep: list[str] = Field(default_factory=list, description="Columns carried to `meta` of the result.")


TEMPLATE_KEYS: Final = frozenset(TemplateSpec.model_fields)


class StopWhenSpec(_Spec):
    """When to give up on a bad run."""

    failure_rate: float = Field(gt=0, le=1, description="Share of finished requests that may fail, e.g. 0.2.")
    after: int = Field(50, ge=1, description="Finished requests before the share means anything.")


class BudgetSpec(_Spec):
    """The most a run, or a route of it, may cost."""

    usd: float = Field(gt=0, allow_inf_nan=False, description="US dollars, e.g. 20 or 0.5.")


class JobSpec(_Spec):
    """A job file."""

    version: Literal[1] = Field(description="The version of this format: 1.")
    name: str | None = Field(None, pattern=NAME_PATTERN, description="Default: the file's stem.")
    input: dict[str, Any] = Field(description="Where the rows come from and how they become requests.")
    params: dict[str, Any] = Field(default_factory=dict, description="Parameters of every request: temperature, ...")
    providers: dict[str, Pluggable] = Field(min_length=1, description="Who answers: a name for each, and its options.")
    routes: list[dict[str, Any]] | None = Field(None, min_length=1, description="First match wins.")
    retry: Pluggable | None = Field(None, description="What to do after a failed attempt.")
    output: str | None = Field(None, description="Short for one sink with this path, chosen by its ending.")
    sinks: list[Pluggable] | None = Field(None, min_length=1, description="Where the results go.")
    order: Literal["completion", "input"] = Field("completion", description="The order of the results in the sinks.")
    dedupe: bool | None = Field(
        None, description="Send identical requests once; default: those at temperature 0, where answers repeat."
    )
    cache: str | None = Field(None, min_length=1, description="A file of answers that runs share.")
    workers: int = Field(
        1, ge=1, le=64, description="Processes that make the calls, for more than one core; 1: all in one process."
    )
    budget: BudgetSpec | None = Field(None, description="The most the run may cost.")
    stop_when: StopWhenSpec | None = None
    deadline: Deadline | None = Field(None, description="Time from the start of the run until all is done, e.g. 6h.")
