"""Options of components: pydantic models that know how to build the component they describe.

An options class is what a component registers. The job file is validated against it, the job schema includes it, and
``build()`` turns the validated options into the component. Unknown keys are errors.
"""

from __future__ import annotations

import math
import os
import re
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Generic, TypeVar

import msgspec
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from promptmill.clock import Clock, SystemClock
from promptmill.errors import UsageError
from promptmill.interfaces import Condition, Observer, Provider, RetryPolicy, Sink, Source
from promptmill.secrets import Secret

C = TypeVar("C")

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")


def parse_duration(value: object) -> float:
    """Seconds from a number of seconds or a text such as ``500ms``, ``30s``, ``1h30m``.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf:
        return float(value)
    if isinstance(value, str):
        text = value.strip()
        if text and _DURATION.sub("", text).strip() == "":
            return sum(float(amount) * _UNITS[unit] for amount, unit in _DURATION.findall(text))
        if re.fullmatch(r"\d+(\.\d+)?", text):
            return float(text)
    raise ValueError("a duration is a number of seconds or a text such as 500ms, 30s or 6h")


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": "^[0-9][0-9.mshd ]*$"}]}),
]
"""A pydantic field type: seconds as a float, never negative; accepts ``500ms``, ``30s``, ``6h`` or a number."""


class SecretRef:
    """A reference to a secret: ``env:NAME`` or ``file:path``. As a pydantic field it refuses a literal value."""

    __slots__ = ("_kind", "_target")

    def __init__(self, reference: str) -> None:
        kind, colon, target = reference.partition(":")
        if not colon or kind not in ("env", "file") or not target:
            # The text is not quoted: it may well be the secret itself.
            raise ValueError(
                "a secret is written as a reference, never as itself: env:NAME or file:path "
                "(put the key into an environment variable, then say env:NAME)"
            )
        self._kind, self._target = kind, target

    def __repr__(self) -> str:
        return f"SecretRef('{self._kind}:{self._target}')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretRef) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    def resolve(self, base_dir: Path) -> Secret:
        """Fetch the secret. Relative paths are relative to ``base_dir``.

        Raises:
            UsageError: the variable is not set, or the file cannot be read.
        """
        if self._kind == "env":
            value = os.environ.get(self._target, "")
            if not value:
                raise UsageError(
                    f"the environment variable {self._target} is not set or empty",
                    code="E0110",
                    hint=f"export {self._target}=... in the shell that starts the run",
                )
            return Secret(value.strip())
        path = base_dir / Path(self._target).expanduser()
        try:
            return Secret(path.read_text(encoding="utf-8").strip())
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise UsageError(f"the secret file {str(path)!r} cannot be read: {reason}", code="E0111") from error

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def read(value: object) -> SecretRef:
            if isinstance(value, SecretRef):
                return value
            if not isinstance(value, str):
                raise ValueError("a secret is a text such as env:NAME or file:path")
            return cls(value)

        return core_schema.no_info_plain_validator_function(read, serialization=core_schema.to_string_ser_schema())

    def __str__(self) -> str:
        return f"{self._kind}:{self._target}"

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {
            "type": "string",
            "pattern": "^(env|file):.+$",
            "description": "A reference to a secret: env:NAME or file:path.",
        }


class BuildContext(msgspec.Struct, frozen=True, kw_only=True):
    """What a component may know of the job it is built for."""

    name: str
    """The name the job gives to this component, for messages."""
    base_dir: Path = msgspec.field(default_factory=Path.cwd)
    """The directory relative paths start from."""
    clock: Clock = msgspec.field(default_factory=SystemClock)
    allow_code: bool = False
    """Whether the user allowed components that run code named in the job file."""


class Options(BaseModel, Generic[C]):
    """Base class of all options. Subclass the one of your kind, add fields, write :meth:`build`."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    kind: ClassVar[str]

    @abstractmethod
    def build(self, context: BuildContext) -> C:
        """Return the component. Opens nothing and sends nothing: that is for its ``aopen``."""


class Limits(BaseModel):
    """What a provider allows this account. Left out means no limit of that kind."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rps: float | None = Field(None, gt=0, description="Calls a second.")
    rpm: float | None = Field(None, gt=0, description="Requests a minute.")
    rpd: float | None = Field(None, gt=0, description="Requests a day.")
    tpm: float | None = Field(None, gt=0, description="Tokens a minute, input and output together.")
    tpd: float | None = Field(None, gt=0, description="Tokens a day, input and output together.")
    itpm: float | None = Field(None, gt=0, description="Input tokens a minute.")
    otpm: float | None = Field(None, gt=0, description="Output tokens a minute.")


class ProviderOptions(Options[Provider]):
    """Base of a provider's options; the fields here are the engine's."""

    kind = "provider"

    model: str | None = Field(None, description="The model that answers.")
    max_concurrency: int | None = Field(None, ge=1, description="Calls in flight at once.")
    limits: Limits = Limits()
    timeout: Duration = Field(600.0, description="Seconds one call may take, e.g. 60s.")


class SourceOptions(Options[Source]):
    kind = "source"


class SinkOptions(Options[Sink]):
    kind = "sink"


class RetryOptions(Options[RetryPolicy]):
    kind = "policy"


class ConditionOptions(Options[Condition]):
    """Options of a condition. When the job file gives a scalar or a list instead of a mapping, it goes to the field
    named by ``shorthand``."""

    kind = "condition"
    shorthand: ClassVar[str | None] = None


class ObserverOptions(Options[Observer]):
    kind = "observer"


Register = Callable[[str, type[Options[Any]]], None]
"""What a hook implementation is handed: call it with a name and an options class."""

RegisterCommand = Callable[[str, Any], None]
"""What ``register_command`` is handed: call it with a name and a function (or an app) typer can read."""
