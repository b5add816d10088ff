"""Options of components: pydantic models that know how to build the component they describe.

An options class is what a component registers. The job file is validated against it, the job schema includes it, and
``build()`` turns the validated options into the component. Unknown keys are errors.
"""

from __future__ import annotations

import os
import re
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Generic, Self, TypeVar

import msgspec
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from promptmill.clock import Clock, SystemClock
from promptmill.errors import UsageError
from promptmill.interfaces import Condition, Observer, Provider, RetryPolicy, Sink, Source
from promptmill.jsontext import REPLACEMENT
from promptmill.secrets import Secret

C = TypeVar("C")

_LONGEST: Final = 10_000 * 86400.0
"""Seconds; event loops cannot wait for much longer, and nobody means to."""

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_NUMBER: Final = r"[0-9]+(?:\.[0-9]+)?"
_PART: Final = re.compile(rf"({_NUMBER}) *(ms|s|m|h|d)")
_DURATION: Final = rf" *(?:{_NUMBER} *|(?:{_NUMBER} *(?:ms|s|m|h|d) *)+)"

_ENV_NAME: Final = r"[A-Za-z_][A-Za-z0-9_]*"


def parse_duration(value: object) -> float:
    """Seconds from a number of seconds or a text such as ``500ms``, ``30s``, ``1h30m``.

    Raises:
        ValueError: it is neither.
    """
    seconds = -1.0
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(max(-1, min(value, _LONGEST + 1)))
    elif isinstance(value, str) and re.fullmatch(_DURATION, value):
        parts = _PART.findall(value)
        seconds = sum(float(amount) * _UNITS[unit] for amount, unit in parts) if parts else float(value)
    if 0 <= seconds <= _LONGEST:
        return seconds
    raise ValueError("a duration is a number of seconds or a text such as 500ms, 30s or 6h, up to 10000d")


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "maximum": _LONGEST},
                {"type": "string", "pattern": f"^{_DURATION}$"},
            ]
        }
    ),
]
"""A pydantic field type: seconds as a float, never negative; accepts ``500ms``, ``30s``, ``6h`` or a number."""


class SecretRef:
    """A reference to a secret: ``env:NAME`` or ``file:path``. As a pydantic field it refuses a literal value."""

    __slots__ = ("_kind", "_target")

    def __init__(self, reference: str) -> None:
        kind, colon, target = reference.partition(":")
        known = bool(re.fullmatch(_ENV_NAME, target)) if kind == "env" else kind == "file" and bool(target)
        if not colon or not known:
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

    def is_open_to_others(self, base_dir: Path) -> bool:
        """Whether it is a file that other users can read. Windows is not asked: its files have no modes."""
        if self._kind != "file" or os.name == "nt":
            return False
        try:
            return bool((base_dir / Path(self._target).expanduser()).stat().st_mode & 0o077)
        except (OSError, ValueError, RuntimeError):
            return False

    def resolve(self, base_dir: Path) -> Secret:
        """Fetch the secret. Relative paths are relative to ``base_dir``.

        Raises:
            UsageError: the variable is not set or empty, or the file cannot be read or is empty.
        """
        if self._kind == "env":
            value = os.environ.get(self._target, "").strip()
            if not value:
                raise UsageError(
                    f"the environment variable {self._target} is not set or empty",
                    code="E0110",
                    hint=f"export {self._target}=... in the shell that starts the run",
                )
            return Secret(value)
        try:
            path = base_dir / Path(self._target).expanduser()
            raw = path.read_bytes()
        except (OSError, ValueError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UsageError(f"the secret file {self._target!r} cannot be read: {reason}", code="E0111") from error
        # Not decoded strictly: a UnicodeDecodeError would carry the secret in its arguments.
        value = raw.decode("utf-8-sig", "replace").strip()
        if not value or REPLACEMENT in value:
            wrong = "is not UTF-8 text" if value else "is empty"
            raise UsageError(f"the secret file {str(path)!r} {wrong}", code="E0111")
        return Secret(value)

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
            "pattern": f"^(env:{_ENV_NAME}|file:.+)$",
            "description": "A reference to a secret: env:NAME or file:path.",
        }


class KeyUse(msgspec.Struct, frozen=True):
    """A key of a provider, and where it goes. Nothing here is a secret."""

    reference: str
    """Where it comes from, such as ``env:NAME``."""
    server: str
    """Where it goes, in words that follow "goes to"."""
    doubts: tuple[str, ...] = ()
    """What the user is warned of."""


class BuildContext(msgspec.Struct, frozen=True, kw_only=True):
    """What a component may know of the job it is built for."""

    name: str
    """The name the job gives to this component, for messages."""
    base_dir: Path = msgspec.field(default_factory=Path.cwd)
    """The directory relative paths start from."""
    clock: Clock = msgspec.field(default_factory=SystemClock)
    allow_code: bool = False
    """Whether the user allowed components that run code named in the job file."""
    run_id: str = ""
    """The run the component is built for, the same however often it is resumed; empty where there is none yet."""
    planning: bool = False
    """Whether it is only asked for estimates and prices, and never opened: it needs no secret and runs no code."""


class Options(BaseModel, Generic[C]):
    """Base class of all options. Subclass the one of your kind, add fields, write :meth:`build`."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)

    kind: ClassVar[str]

    how_only: ClassVar[frozenset[str]] = frozenset()
    """Fields that say how the work is done and change nothing about its result: a run can go on when they change."""

    @abstractmethod
    def build(self, context: BuildContext) -> C:
        """Return the component. Opens nothing and sends nothing: that is for its ``aopen``."""

    def identity(self) -> dict[str, Any]:
        """What must be the same for results to go together, as JSON: all options but defaults, secrets and
        :attr:`how_only`."""
        secret = {name for name in type(self).model_fields if isinstance(getattr(self, name), SecretRef)}
        return self.model_dump(mode="json", exclude=secret | self.how_only, exclude_defaults=True)


class Limits(BaseModel):
    """What a provider allows this account. Left out means no limit of that kind."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    rps: float | None = Field(None, gt=0, description="Calls a second.")
    rpm: float | None = Field(None, gt=0, description="Requests a minute.")
    rpd: float | None = Field(None, gt=0, description="Requests a day.")
    tpm: float | None = Field(None, gt=0, description="Tokens a minute, input and output together.")
    tpd: float | None = Field(None, gt=0, description="Tokens a day, input and output together.")
    itpm: float | None = Field(None, gt=0, description="Input tokens a minute.")
    otpm: float | None = Field(None, gt=0, description="Output tokens a minute.")


class Price(BaseModel):
    """What tokens cost here, in US dollars a million. What is given wins over the price table."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)

    input: float | None = Field(None, ge=0, description="USD a million input tokens.")
    output: float | None = Field(None, ge=0, description="USD a million output tokens, reasoning included.")
    cached_input: float | None = Field(None, ge=0, description="USD a million cached input tokens; default: as input.")
    vendor: str | None = Field(
        None, min_length=1, description="Whose prices of the price table apply, where the provider cannot know."
    )
    flex_discount: float | None = Field(None, ge=0, le=1, description="What flex takes off the price, e.g. 0.5.")
    batch_discount: float | None = Field(None, ge=0, le=1, description="What a batch takes off the price, e.g. 0.5.")

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.input is None) != (self.output is None):
            raise ValueError("a price needs both `input` and `output`; write 0 for what costs nothing")
        if self.input is None and self.cached_input is not None:
            raise ValueError("a price with `cached_input` needs `input` and `output` too")
        if self.input is not None and self.vendor is not None:
            raise ValueError("a price is either given by `input` and `output` or is that of a `vendor`, not both")
        return self


_SHARED: Final = frozenset({"pool", "price", "timeout", "max_concurrency", "hedge", "limit_group"})
"""What the keys of a pool cannot have of their own."""


def _mistake(reason: str, *at: int | str) -> InitErrorDetails:
    """A mistake in a pool. What was given is left out: it may be a secret."""
    kind = PydanticCustomError("pool", "{reason}", {"reason": reason.removeprefix("Value error, ")})
    return InitErrorDetails(type=kind, loc=("pool", *at), input=None)


class ProviderOptions(Options[Provider]):
    """Base of a provider's options; the fields here are the engine's."""

    kind = "provider"
    how_only = frozenset({"max_concurrency", "limits", "timeout", "price", "pool", "hedge", "limit_group"})

    where_only: ClassVar[frozenset[str]] = frozenset()
    """Fields that say where the provider is: a run can go on when they change, and says that they did."""

    model: str | None = Field(None, description="The model that answers.")
    max_concurrency: int | None = Field(None, ge=1, description="Calls in flight at once.")
    limits: Limits = Limits()
    timeout: Duration = Field(600.0, description="Seconds one call may take, e.g. 60s.")
    price: Price | None = Field(None, description="What its tokens cost; default: by the price table.")
    hedge: float | None = Field(
        None, ge=0.5, lt=1, description="Ask again when a call takes longer than this share of calls, e.g. 0.95."
    )
    limit_group: str | None = Field(
        None, min_length=1, description="Providers of the job with the same name here count against the same limits."
    )
    pool: tuple[dict[str, Any], ...] = Field(
        (), description="Keys or deployments of the same model that share the work: what each has of its own."
    )

    def key_uses(self, context: BuildContext) -> Sequence[KeyUse]:  # noqa: ARG002 - the default knows of no key
        """Which keys calls send and where. Fetches no secret. Raises UsageError: the job has to name one."""
        return ()

    def members(self) -> list[Self]:
        """The options of each key of the pool; these alone when there is no pool.

        Raises:
            ValidationError: what one of them has of its own is wrong; its place in the pool is in the locations.
        """
        if not self.pool:
            return [self]
        shared = self.model_dump(mode="json", exclude={"pool"}, exclude_unset=True)
        return [self._member(at, {**shared, **own}) for at, own in enumerate(self.pool)]

    def _member(self, at: int, values: dict[str, Any]) -> Self:
        try:
            return type(self).model_validate(values)
        except ValidationError as error:
            wrong = [_mistake(one["msg"], at, *one["loc"]) for one in error.errors(include_url=False)]
            raise ValidationError.from_exception_data(error.title, wrong) from None

    @model_validator(mode="after")
    def _pool_is_sound(self) -> Self:
        wrong = []
        if self.pool and self.limit_group is not None:
            wrong.append(_mistake("the keys of a `pool` have limits of their own: there can be no `limit_group`"))
        for at, own in enumerate(self.pool):
            wrong += [
                _mistake(f"{key!r} is the same for the whole pool: say it once, outside of it", at, key)
                for key in sorted(own.keys() & _SHARED)
            ]
            if not own:
                wrong.append(_mistake(f"number {at + 1} of the pool has nothing of its own, such as an api_key", at))
        if wrong:
            raise ValidationError.from_exception_data(type(self).__name__, wrong)
        self.members()
        return self


class BatchProviderOptions(ProviderOptions):
    """Base of a batch provider's options; the fields here are the engine's."""

    how_only = ProviderOptions.how_only | {
        "poll_interval",
        "linger",
        "batch_requests",
        "batch_bytes",
        "max_batches",
        "enqueued_tokens",
    }

    timeout: Duration = Field(3600.0, description="Seconds one call may take; an upload is one.")
    poll_interval: Duration = Field(30.0, gt=0, description="First wait between two looks at a batch; it grows.")
    linger: Duration = Field(10.0, description="How long a batch waits for more requests before it is sent.")
    batch_requests: int | None = Field(None, ge=1, description="Most requests of a batch; default: as the provider.")
    batch_bytes: int | None = Field(None, ge=1, description="Most bytes of a batch; default: as the provider.")
    max_batches: int = Field(20, ge=1, description="Batches under way at once.")
    enqueued_tokens: int | None = Field(
        None, ge=1, description="Tokens the provider lets wait in batches; default: learned when it refuses one."
    )

    @model_validator(mode="after")
    def _has_no_realtime_limits(self) -> Self:
        if self.max_concurrency is not None or self.limits != Limits() or self.pool or self.hedge or self.limit_group:
            raise ValueError(
                "a batch provider makes few calls: no `max_concurrency`, `limits`, `limit_group`, `pool` or `hedge`"
            )
        return self


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
