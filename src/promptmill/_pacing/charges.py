"""What one call was counted as, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

import msgspec

from promptmill._pacing.cap import Cap
from promptmill._pacing.windows import Window
from promptmill.errors import ProviderError
from promptmill.models import LimitedThing, TokenEstimate


class Fate(Enum):
    """What became of a call: ``TAKEN`` says that the provider did not refuse it, ``UNKNOWN`` that it says nothing."""

    UNDER_WAY = 0
    TAKEN = 1
    REFUSED = 2
    UNKNOWN = 3


class Charge(msgspec.Struct):
    """What one request was counted as, by limited thing. ``sent_at`` is when it went; ``before`` what had been charged
    until then; ``windows`` are those it was charged to, which are not those that were heard of since; ``tried`` is how
    many calls were under way in its channel, itself counted, ``level`` the same without those that were refused, as far
    as that is known, and ``cap`` what is known of how many may be."""

    sent_at: float
    estimate: TokenEstimate
    costs: Mapping[LimitedThing, float]
    before: Mapping[LimitedThing, float]
    windows: list[tuple[LimitedThing, Window]]
    cap: Cap | None = None
    tried: int = 1
    level: int = 1
    probe: bool = False
    """Whether it finds out if a key that rested may be used again."""
    fate: Fate = Fate.UNDER_WAY
    failure: ProviderError | None = None
    """Of one that was refused."""
    seen: bool = False
    """Whether its fate has been taken note of."""
