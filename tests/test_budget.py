"""The budget against exact fractions: never too much set aside, given back once, and nothing lost on the way."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from promptmill._budget import Budget, Reservation, worst_input_tokens, worst_output_tokens
from promptmill.jsontext import encode
from promptmill.models import Message, Request

AMOUNTS = st.integers(0, 3 * 10**12).map(lambda count: count / 10**12)
"""Costs have 12 digits after the point."""


class BudgetMachine(RuleBasedStateMachine):
    """The budget beside sums of exact fractions."""

    reservations: Bundle[tuple[Reservation, tuple[str, ...], Fraction]] = Bundle("reservations")

    @initialize(run=AMOUNTS, route=AMOUNTS, before=AMOUNTS)
    def begin(self, run: float, route: float, before: float) -> None:
        self.caps = {"run": exact(10 * run), "route 1": exact(route)}
        self.budget = Budget({"run": 10 * run, "route 1": route}, spent={"run": before, "route 3": 1.0})
        self.settled = {"run": exact(before), "route 1": Fraction(), "route 2": Fraction(), "route 3": Fraction(1)}
        self.open: dict[int, tuple[tuple[str, ...], Fraction]] = {}
        self.freed = 0
        self.budget.on_freed.append(self.count)

    def count(self) -> None:
        self.freed += 1

    def reserved(self, name: str) -> Fraction:
        return sum((amount for scopes, amount in self.open.values() if name in scopes), Fraction())

    @rule(target=reservations, scopes=st.lists(st.sampled_from(["run", "route 1", "route 2"]), max_size=4), usd=AMOUNTS)
    def reserve(self, scopes: list[str], usd: float) -> tuple[Reservation, tuple[str, ...], Fraction]:
        amount = exact(usd)
        fits = [name for name in scopes if name not in self.caps or amount <= self.left(name)]
        never = [name for name in scopes if name in self.caps and self.settled[name] + amount > self.caps[name]]
        assert self.budget.never_fits(scopes, usd) == (never[0] if never else None)
        made = self.budget.reserve(scopes, usd)
        assert (made is not None) == (len(fits) == len(scopes))
        if made is None:
            made = self.budget.hold(scopes, usd)
        self.open[id(made)] = (tuple(scopes), amount)
        return made, tuple(scopes), amount

    @rule(one=reservations, usd=AMOUNTS | st.just(-1.0) | st.just(math.nan))
    def settle(self, one: tuple[Reservation, tuple[str, ...], Fraction], usd: float) -> None:
        reservation, scopes, amount = one
        expected = self.freed + (id(reservation) in self.open)
        self.budget.settle(reservation, usd)
        if self.open.pop(id(reservation), None):
            for name in set(scopes):
                self.settled[name] += amount if math.isnan(usd) else max(exact(usd), Fraction())
        assert self.freed == expected

    @rule(one=reservations)
    def release(self, one: tuple[Reservation, tuple[str, ...], Fraction]) -> None:
        expected = self.freed + (id(one[0]) in self.open)
        self.budget.release(one[0])
        self.open.pop(id(one[0]), None)
        assert self.freed == expected

    def left(self, name: str) -> Fraction:
        return self.caps[name] - self.settled[name] - self.reserved(name)

    @invariant()
    def adds_up(self) -> None:
        assert exact(self.budget.outstanding) == sum(amount for _, amount in self.open.values())
        for name, settled in self.settled.items():
            scope = self.budget.scope(name)
            assert (exact(scope.settled), exact(scope.reserved)) == (settled, self.reserved(name))
            assert scope.left == math.inf if name not in self.caps else exact(scope.left) == self.left(name)
        assert {name: exact(usd) for name, usd in self.budget.spent().items()} == self.settled


def exact(usd: float) -> Fraction:
    return Fraction(round(usd * 10**12), 10**12)


TestBudgetMachine = BudgetMachine.TestCase
TestBudgetMachine.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def test_without_caps_there_is_no_budget_and_what_is_spent_is_counted() -> None:
    budget = Budget({})
    assert not budget
    assert Budget({"route 1": 5.0})
    reservation = budget.reserve(["run", "route 1"], 1e9)
    assert reservation is not None
    budget.settle(reservation, 7.0)
    assert budget.spent() == {"run": 7.0, "route 1": 7.0}


def test_a_sum_that_only_floats_would_miss_is_exact() -> None:
    """0.1 + 0.2 is more than 0.3 in floats; a thousand times 0.001 is less than 1."""
    budget = Budget({"run": 0.3})
    assert budget.reserve(["run"], 0.1)
    assert budget.reserve(["run"], 0.2)
    assert budget.reserve(["run"], 1e-12) is None
    thousand = Budget({"run": 1.0})
    for _ in range(1000):
        assert thousand.reserve(["run"], 0.001)
    assert thousand.reserve(["run"], 1e-12) is None


def test_all_scopes_or_none() -> None:
    budget = Budget({"run": 10.0, "route 2": 1.0})
    assert budget.reserve(["run", "route 2"], 1.5) is None
    assert budget.outstanding == 0
    assert budget.scope("run").reserved == 0


def test_what_an_earlier_process_sent_counts_even_above_the_cap() -> None:
    budget = Budget({"run": 1.0})
    held = budget.hold(["run"], 5.0)
    assert budget.scope("run").left == -4.0
    assert budget.reserve(["run"], 0.1) is None
    assert budget.never_fits(["run"], 0.1) is None
    budget.settle(held, 0.5)
    assert budget.reserve(["run"], 0.5)


@pytest.mark.parametrize("usd", [math.inf, math.nan])
def test_no_number_never_fits(usd: float) -> None:
    budget = Budget({"run": 1.0})
    assert budget.reserve(["run"], usd) is None
    assert budget.never_fits(["route 1", "run"], usd) == "run"


def test_warns_once_at_each_mark_and_only_of_the_highest_passed() -> None:
    said: list[str] = []
    budget = Budget({"run": 20.0, "route 2": 0.05}, warn=said.append)

    def spend(name: str, usd: float) -> list[str]:
        said.clear()
        budget.settle(budget.hold([name], usd), usd)
        return list(said)

    assert spend("run", 9.99) == []
    assert spend("run", 0.01) == ["the run has spent $10.00 of its budget of $20.00 (50 %)"]
    assert spend("run", 5.99) == []
    assert spend("run", 3.03) == ["the run has spent $19.02 of its budget of $20.00 (95 %)"]
    assert spend("run", 9.00) == []
    assert spend("route 2", 0.045) == ["route 2 has spent $0.045 of its budget of $0.050 (90 %)"]


def test_does_not_repeat_the_warnings_of_an_earlier_process() -> None:
    said: list[str] = []
    budget = Budget({"run": 10.0}, spent={"run": 5.0}, warn=said.append)
    budget.settle(budget.hold(["run"], 1.0), 1.0)
    assert said == []
    budget.settle(budget.hold(["run"], 2.0), 2.0)
    assert said == ["the run has spent $8.00 of its budget of $10.00 (80 %)"]


def test_a_callback_sees_the_money_back() -> None:
    budget = Budget({"run": 1.0})
    seen: list[float] = []
    budget.on_freed.append(lambda: seen.append(budget.scope("run").left))
    first = budget.hold(["run"], 1.0)
    budget.settle(first, 0.25)
    budget.settle(first, 0.25)
    budget.release(first)
    assert seen == [0.75]


TEXT = st.text(st.characters(exclude_categories=()), max_size=30)


@given(messages=st.lists(st.tuples(TEXT, TEXT), max_size=3), params=st.dictionaries(TEXT, TEXT, max_size=3))
def test_there_is_a_token_for_each_byte_that_is_sent(messages: list[tuple[str, str]], params: dict[str, str]) -> None:
    request = Request(id="1", messages=tuple(Message(*one) for one in messages), params=params)
    worst = worst_input_tokens(request)
    unknown = {"previous_response_id", "conversation", "web_search_options", "data_sources"} & set(params)
    assert worst is not None or unknown
    sent = sum(len(encode(text)) - 2 for text in params.values())
    sent += sum(len(text.encode("utf-8", "surrogatepass")) for one in messages for text in one)
    assert unknown or (worst or 0) >= sent + 16 * len(messages) + 64


def test_everything_that_goes_into_the_prompt_counts() -> None:
    def worst(**fields: object) -> int:
        found = worst_input_tokens(Request(id="1", **fields))  # type: ignore[arg-type]
        assert found is not None
        return found

    assert worst() == 64
    assert worst(messages=(Message("user", "héllo"),)) == 64 + 16 + 4 + 6
    assert worst(params={"temperature": 0, "max_tokens": 10, "logprobs": True, "stop": None}) == 64
    assert worst(params={"input": "abc"}, operation="embeddings") == 64 + 5
    assert worst(params={"input": [1, 22, 333]}, operation="embeddings") == 64 + 10
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    assert worst(params={"tools": tools}) == 64 + len(encode(tools))
    part = {"type": "text", "text": "abc"}
    assert worst(messages=(Message("user", [part]),)) == 64 + 16 + 4 + len(encode(part))
    calls = {"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]}
    assert worst(messages=(Message("assistant", None, calls),)) == 64 + 16 + 9 + len(encode(calls))


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": (Message("user", [{"type": "image_url", "image_url": {"url": "x"}}]),)},
        {"messages": (Message("user", [{"type": "file", "file": {"file_id": "x"}}]),)},
        {"messages": (Message("user", [{"type": "text", "text": "a"}, {"type": "input_audio"}]),)},
        {"params": {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}},
        {"params": {"input": [{"type": "item_reference", "id": "x"}]}},
        {"params": {"tools": [{"type": "function"}, {"type": "web_search"}]}},
        {"params": {"previous_response_id": "x"}},
        {"params": {"prompt": {"id": "x"}}},
        {"params": {"web_search_options": {}}},
    ],
    ids=str,
)
def test_what_is_not_in_the_request_has_no_bound(fields: dict[str, object]) -> None:
    assert worst_input_tokens(Request(id="1", **fields)) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("params", "estimated", "most"),
    [
        ({"max_tokens": 100}, 100, 100),
        ({"max_tokens": 100, "max_completion_tokens": 300}, 300, 300),
        ({"max_tokens": 300, "max_completion_tokens": 100}, 100, 300),
        ({"max_output_tokens": 50}, None, 50),
        ({"max_tokens": 100, "n": 3}, 100, 300),
        ({"max_tokens": 100, "n": None}, 100, 100),
        ({"max_tokens": 100, "n": 2, "best_of": 5}, 100, 500),
        ({"max_tokens": 99.5}, None, 100),
        ({"n": 2}, 256, 512),
        ({}, 256, 256),
        ({}, None, None),
        ({"n": 2}, None, None),
        ({"max_tokens": None}, None, None),
        ({"max_tokens": -1}, -1, None),
        ({"max_tokens": 0}, 0, None),
        ({"max_tokens": 0}, None, None),
        ({"max_tokens": True}, None, None),
        ({"max_tokens": "100"}, None, None),
        ({"max_tokens": 100, "max_completion_tokens": -1}, 100, None),
        ({}, 0, 0),
        ({"max_tokens": 100}, 0, 0),
    ],
    ids=str,
)
def test_the_answer_is_bounded_by_what_is_asked(params: dict[str, object], estimated: int | None, most: int) -> None:
    assert worst_output_tokens(Request(id="1", params=params), estimated) == most


def test_embeddings_have_no_answer_in_tokens() -> None:
    assert worst_output_tokens(Request(id="1", operation="embeddings", params={"input": "a"}), None) == 0
