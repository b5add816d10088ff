"""What may still be spent: money is set aside before a call, for the worst it can cost, and settled when it is over.

Amounts are counted in whole trillionths of a dollar, the last digit a cost has, so that setting aside and giving back
adds up after any number of calls.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from promptmill.jsontext import JSON, encode
from promptmill.models import Message, Request

WARN_AT: Final = (50, 80, 95)
"""Percent of a cap at which is warned, once each."""

TOKENS_A_MESSAGE: Final = 16
TOKENS_A_REQUEST: Final = 64
"""More than chat templates add: 3 to 5 tokens a message and 3 for the answer."""

OUTPUT_LIMITS: Final = ("max_completion_tokens", "max_tokens", "max_output_tokens")
"""Parameters that bound an answer, in the words of the APIs that take them."""

_UNITS: Final = 10**12

_TEXT_PARTS: Final = frozenset({"text", "input_text", "output_text", "refusal"})
_MEDIA: Final = ("image", "audio", "video", "file", "reference")
_OWN_TOOLS: Final = frozenset({"function", "custom"})
_FROM_ELSEWHERE: Final = frozenset({"previous_response_id", "conversation", "web_search_options", "data_sources"})
"""Parameters by which the provider puts into the prompt what the request does not hold."""


class Scope:
    """What one cap counts. ``cap`` is None where only the sum is kept."""

    def __init__(self, name: str, cap: float | None, spent: float = 0.0) -> None:
        self.name = name
        self.cap = cap
        self._cap = None if cap is None else _units(cap)
        self._settled = _units(spent)
        self._reserved = 0
        self._warned = 0 if self._cap is None else self._passed(self._cap)

    @property
    def settled(self) -> float:
        """USD spent."""
        return self._settled / _UNITS

    @property
    def reserved(self) -> float:
        """USD set aside for calls that are not over."""
        return self._reserved / _UNITS

    @property
    def left(self) -> float:
        """USD that may be set aside now; infinite without a cap, and below 0 after calls that cost more than that."""
        return math.inf if self._cap is None else (self._cap - self._settled - self._reserved) / _UNITS

    def takes(self, units: int) -> bool:
        return self._cap is None or self._settled + self._reserved + units <= self._cap

    def could_take(self, units: int) -> bool:
        """Whether there is room for it once everything that is set aside is back."""
        return self._cap is None or self._settled + units <= self._cap

    def set_aside(self, units: int) -> None:
        self._reserved += units

    def close(self, reserved: int, spent: int) -> str | None:
        """Give back what was ``reserved`` and count what was ``spent``. Returns a warning where one is due."""
        self._reserved -= reserved
        self._settled += spent
        if self._cap is None:
            return None
        passed = self._passed(self._cap)
        if passed <= self._warned:
            return None
        self._warned = passed
        sums = f"{_dollars(self._settled)} of its budget of {_dollars(self._cap)}"
        whose = "the run" if self.name == "run" else self.name
        return f"{whose} has spent {sums} ({100 * self._settled // self._cap} %)"

    def _passed(self, cap: int) -> int:
        """How many of the marks have been reached."""
        return sum(100 * self._settled >= cap * percent for percent in WARN_AT)


class Reservation:
    """Money set aside for one call, until it is settled or released."""

    __slots__ = ("is_open", "scopes", "units")

    def __init__(self, scopes: tuple[Scope, ...], units: int) -> None:
        self.scopes = scopes
        self.units = units
        self.is_open = True

    @property
    def usd(self) -> float:
        return self.units / _UNITS


class Budget:
    """The caps of a run by name, such as ``run`` or ``route 2``, in USD. Without any it is false.

    ``spent`` is what earlier processes of this run have spent, by the same names. Names without a cap are counted too:
    the next process may have one for them. ``warn`` gets a sentence when half, 80 % and 95 % of a cap are spent.
    """

    def __init__(
        self,
        caps: Mapping[str, float],
        *,
        spent: Mapping[str, float] | None = None,
        warn: Callable[[str], None] = lambda _: None,
    ) -> None:
        before = spent or {}
        self._scopes = {name: Scope(name, caps.get(name), before.get(name, 0.0)) for name in {**caps, **before}}
        self._has_caps = bool(caps)
        self._warn = warn
        self._outstanding = 0
        self.on_freed: list[Callable[[], None]] = []
        """Called whenever a reservation was settled or released: there may be room now, or never any more."""

    def __bool__(self) -> bool:
        return self._has_caps

    @property
    def outstanding(self) -> float:
        """USD set aside for calls that are not over."""
        return self._outstanding / _UNITS

    def scope(self, name: str) -> Scope:
        """What is counted under a name."""
        if name not in self._scopes:
            self._scopes[name] = Scope(name, None)
        return self._scopes[name]

    def spent(self) -> dict[str, float]:
        """USD spent by name, of this process and of those before it: what the next one has to be told."""
        return {name: scope.settled for name, scope in self._scopes.items()}

    def reserve(self, scopes: Sequence[str], usd: float) -> Reservation | None:
        """Set ``usd`` aside in all scopes, or in none and return None when one of them has not as much left now."""
        if not math.isfinite(usd):
            return None
        found, units = self._named(scopes), _units(usd)
        if not all(scope.takes(units) for scope in found):
            return None
        return self._set_aside(found, units)

    def hold(self, scopes: Sequence[str], usd: float) -> Reservation:
        """Set ``usd`` aside whatever is left: for what an earlier process has sent and nobody can take back."""
        return self._set_aside(self._named(scopes), _units(usd))

    def settle(self, reservation: Reservation, usd: float) -> None:
        """The call is over and cost ``usd``, also more than was set aside. Only the first end of a reservation counts.

        A cost that is no number is taken for all that was set aside.
        """
        self._end(reservation, _units(usd) if math.isfinite(usd) else reservation.units)

    def release(self, reservation: Reservation) -> None:
        """Nothing was spent."""
        self._end(reservation, 0)

    def never_fits(self, scopes: Sequence[str], usd: float) -> str | None:
        """The scope that has not ``usd`` left even if all that is set aside came back; None when all have."""
        for scope in self._named(scopes):
            if scope.cap is not None and not (math.isfinite(usd) and scope.could_take(_units(usd))):
                return scope.name
        return None

    def _named(self, scopes: Iterable[str]) -> tuple[Scope, ...]:
        return tuple(self.scope(name) for name in dict.fromkeys(scopes))

    def _set_aside(self, scopes: tuple[Scope, ...], units: int) -> Reservation:
        for scope in scopes:
            scope.set_aside(units)
        self._outstanding += units
        return Reservation(scopes, units)

    def _end(self, reservation: Reservation, spent: int) -> None:
        if not reservation.is_open:
            return
        reservation.is_open = False
        self._outstanding -= reservation.units
        for warning in [scope.close(reservation.units, spent) for scope in reservation.scopes]:
            if warning is not None:
                self._warn(warning)
        for callback in self.on_freed:
            callback()


def worst_input_tokens(request: Request) -> int | None:
    """The most input tokens ``request`` can be; None when nobody can tell, as with images or a hosted tool.

    Tokenizers that work on bytes make no more than one token of each.
    """
    tokens = TOKENS_A_REQUEST
    for message in request.messages:
        size = _message_bytes(message)
        if size is None:
            return None
        tokens += size + TOKENS_A_MESSAGE
    for name, value in request.params.items():
        if value is not None and (name in _FROM_ELSEWHERE or not _is_all_here(name, value)):
            return None
        if isinstance(value, str | list | dict):
            tokens += len(encode(value))
    return tokens


def worst_output_tokens(request: Request, estimated: int | None) -> int | None:
    """The most output tokens all answers to ``request`` can have; None when they have no bound.

    ``estimated`` is the bound by the provider's estimate: 0 where it answers without tokens, as with embeddings.
    """
    given = [value for name in OUTPUT_LIMITS if (value := request.params.get(name)) is not None]
    bounds = [_bound(value) for value in given]
    if request.operation == "embeddings" or (estimated == 0 and None not in bounds):
        return 0
    if estimated is not None:
        bounds.append(_bound(estimated))
    known = [bound for bound in bounds if bound is not None]
    if not known or len(known) < len(bounds):
        return None
    answers = [_bound(request.params.get(name)) or 1 for name in ("n", "best_of")]
    return max(known) * max(answers)


def _bound(value: JSON) -> int | None:
    """``value`` as a limit. To some servers 0 or -1 means that there is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value < math.inf:
        return None
    return math.ceil(value)


def _message_bytes(message: Message) -> int | None:
    size = _bytes_of(message.role)
    if isinstance(message.content, str):
        size += _bytes_of(message.content)
    else:
        for part in message.content or ():
            if part.get("type") not in _TEXT_PARTS:
                return None
            size += len(encode(part))
    return size + len(encode(message.extra)) if message.extra else size


def _bytes_of(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _is_all_here(name: str, value: Any) -> bool:
    """Whether all that a parameter puts into the prompt is text in the request itself."""
    if name == "tools" and isinstance(value, list):
        return all(not isinstance(tool, dict) or tool.get("type") in _OWN_TOOLS for tool in value)
    if name == "input":
        return not _has_media(value)
    return name != "prompt" or not isinstance(value, dict)


def _has_media(value: Any) -> bool:
    if isinstance(value, list):
        return any(_has_media(one) for one in value)
    if isinstance(value, dict):
        kind = str(value.get("type", ""))
        return any(word in kind for word in _MEDIA) or any(_has_media(one) for one in value.values())
    return False


def _units(usd: float) -> int:
    return max(round(usd * _UNITS), 0)


def _dollars(units: int) -> str:
    usd = units / _UNITS
    if usd == 0 or usd >= 1:
        return f"${usd:,.2f}"
    return f"${usd:.{1 - math.floor(math.log10(usd))}f}"
