"""The first matching route, its fallbacks, and the combinations of conditions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptmill._routing import AllOf, AnyOf, Not, Route, Router
from promptmill.errors import JobError
from promptmill.interfaces import Condition
from promptmill.models import Request


class Tagged:
    """Holds for requests with the tag."""

    def __init__(self, tag: str) -> None:
        self.tag = tag

    def matches(self, request: Request) -> bool:
        return self.tag in request.tags


class Never:
    def matches(self, request: Request) -> bool:
        raise AssertionError("not asked")


def tagged(*tags: str) -> Request:
    return Request(id="1", tags=tags)


@given(st.lists(st.booleans(), max_size=5))
def test_combinations_are_those_of_logic(held: list[bool]) -> None:
    conditions: tuple[Condition, ...] = tuple(Tagged("yes" if one else "no") for one in held)
    request = tagged("yes")
    assert AllOf(conditions).matches(request) is all(held)
    assert AnyOf(conditions).matches(request) is any(held)
    assert Not(AllOf(conditions)).matches(request) is not all(held)


def test_combinations_stop_as_soon_as_they_know() -> None:
    assert AnyOf((Tagged("a"), Never())).matches(tagged("a"))
    assert not AllOf((Tagged("b"), Never())).matches(tagged("a"))


def test_the_first_matching_route_wins() -> None:
    router = Router(
        [
            Route("one", Tagged("a")),
            Route("two", AllOf((Tagged("b"), Not(Tagged("c")))), fallback=("one", "three")),
            Route("three"),
        ],
        ["one", "two", "three"],
    )
    assert router.chain(tagged("a", "b")) == ("one",)
    assert router.chain(tagged("b")) == ("two", "one", "three")
    assert router.chain(tagged("b", "c")) == ("three",)
    assert router.chain(tagged()) == ("three",)


def test_routes_behind_the_match_are_not_asked() -> None:
    router = Router([Route("one", Tagged("a")), Route("one", Never()), Route("one")], ["one"])
    assert router.chain(tagged("a")) == ("one",)


@pytest.mark.parametrize(
    ("routes", "code", "message"),
    [
        ([], "E0230", "there is no route"),
        (
            [Route("one"), Route("one", Tagged("a"))],
            "E0230",
            "the last route does not match everything, so some requests would have nowhere to go",
        ),
        ([Route("four")], "E0231", "a route names the provider 'four', which is not defined"),
        ([Route("one", fallback=("five",))], "E0231", "a route names the provider 'five', which is not defined"),
    ],
)
def test_routes_that_lead_nowhere_are_refused(routes: list[Route], code: str, message: str) -> None:
    with pytest.raises(JobError) as caught:
        Router(routes, ["one", "two"])
    assert caught.value.code == code
    assert caught.value.message == message
    assert caught.value.hint
