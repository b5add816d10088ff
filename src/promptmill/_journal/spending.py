"""What a run has spent, as its tails tell it: totals that were noted, and calls nobody knows the end of.

Such a call may have been billed. What was set aside for it counts as spent, so that a budget holds over any number of
kills.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from promptmill._journal.store import Finished
from promptmill._journal.tail import RECEIVED, SENT, SETTLED, SPENT
from promptmill.jsontext import JSON

DIGITS: Final = 12
"""After the point of a sum of dollars; costs have no more."""


class Sent(msgspec.Struct, frozen=True, array_like=True):
    """A call that is about to be made. ``reserved`` USD are set aside for it in each of ``scopes``."""

    index: int
    attempt: int
    provider: str
    reserved: float = 0.0
    scopes: tuple[str, ...] = ()


class Spent(msgspec.Struct, frozen=True, array_like=True):
    """USD spent by scope: the cost of every answer noted before, but of those to the requests in ``without``."""

    totals: dict[str, float]
    without: tuple[int, ...] = ()


_pack = msgspec.msgpack.Encoder().encode
unpack_sent = msgspec.msgpack.Decoder(Sent).decode
_unpack_spent = msgspec.msgpack.Decoder(Spent).decode
_unpack_index = msgspec.msgpack.Decoder(int).decode
_unpack_received = msgspec.msgpack.Decoder(Finished).decode


def pack_sent(sent: Sent) -> bytes:
    """Without a budget the frame is as it was before there were any."""
    return _pack(sent if sent.reserved else (sent.index, sent.attempt, sent.provider))


def pack_spent(spent: Spent) -> bytes:
    return _pack(spent)


class Spending:
    """Follows the frames of a tail in their order. Each call has one reservation, however often it is told of."""

    def __init__(self, totals: Mapping[str, float]) -> None:
        self.totals = dict(totals)
        self._open: dict[int, Sent] = {}
        self._answered: set[int] = set()

    def take(self, kind: int, payload: bytes) -> None:
        """Take in the next frame."""
        if kind == SENT:
            self._sent(unpack_sent(payload))
        elif kind == SETTLED:  # what it cost, if anything, is in the totals already
            self._open.pop(_unpack_index(payload), None)
        elif kind == RECEIVED and self._open:  # its cost is in the totals that come next
            self._answered.add(_unpack_received(payload).index)
        elif kind == SPENT:
            self._spent(_unpack_spent(payload))

    def _sent(self, sent: Sent) -> None:
        if sent.reserved:
            self._open[sent.index] = sent
        self._answered.discard(sent.index)

    def _spent(self, spent: Spent) -> None:
        self.totals = highest(self.totals, spent.totals)
        for index in self._answered.difference(spent.without):
            self._open.pop(index, None)
        self._answered.intersection_update(spent.without)

    def with_unknown(self, finished: Iterable[int] = ()) -> dict[str, float]:
        """The totals, and all that was set aside for calls whose cost is not in them; ``finished`` requests are."""
        totals, known = dict(self.totals), set(finished)
        for sent in self._open.values():
            for scope in sent.scopes if sent.index not in known else ():
                totals[scope] = round(totals.get(scope, 0.0) + sent.reserved, DIGITS)
        return totals

    @property
    def open(self) -> set[int]:
        """Requests whose cost is not known."""
        return set(self._open)


def highest(first: Mapping[str, float], second: Mapping[str, float]) -> dict[str, float]:
    """The higher of two totals for each scope: totals only grow."""
    return {scope: max(first.get(scope, 0.0), second.get(scope, 0.0)) for scope in {**first, **second}}


def totals_of(value: JSON) -> dict[str, float]:
    """The totals kept in the database; none when there are none."""
    return {} if value is None else msgspec.convert(value, dict[str, float])
