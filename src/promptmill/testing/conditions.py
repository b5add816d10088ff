"""The contract of a routing condition."""

from __future__ import annotations

from collections.abc import Sequence

from promptmill import jsontext
from promptmill.interfaces import Condition
from promptmill.models import Message, Request
from promptmill.testing.contract import Contract
from promptmill.testing.records import request


class ConditionContract(Contract):
    """Subclass it, name it ``Test...``, set ``options_class`` and :meth:`settings`, and give both lists."""

    def make_condition(self) -> Condition:
        condition: Condition = self.build()
        return condition

    def matching(self) -> Sequence[Request]:
        """Requests the condition holds for."""
        raise TypeError(f"{type(self).__name__!r} must give requests that match: override matching()")

    def others(self) -> Sequence[Request]:
        """Requests it does not hold for."""
        raise TypeError(f"{type(self).__name__!r} must give requests that do not match: override others()")

    def test_holds(self) -> None:
        condition = self.make_condition()
        assert self.matching()
        assert [one for one in self.matching() if condition.matches(one) is not True] == []

    def test_does_not_hold(self) -> None:
        condition = self.make_condition()
        assert self.others()
        assert [one for one in self.others() if condition.matches(one) is not False] == []

    def test_same_answer_twice_and_request_untouched(self) -> None:
        condition = self.make_condition()
        for one in (*self.matching(), *self.others()):
            before = jsontext.encode(one)
            assert condition.matches(one) == condition.matches(one)
            assert jsontext.encode(one) == before

    def test_answers_for_odd_requests(self) -> None:
        condition = self.make_condition()
        odd = [
            Request(id="1"),
            Request(id="2", operation="embeddings", params={"input": "x", "model": 7}),
            request("", priority="bulk", tags=("",)),
            Request(id="3", messages=(Message("user", [{"type": "image_url", "image_url": {"url": "x"}}]),)),
            Request(id="4", messages=(Message("assistant", None),)),
        ]
        for one in odd:
            assert condition.matches(one) in (True, False)
