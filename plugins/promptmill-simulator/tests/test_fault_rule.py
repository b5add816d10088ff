from __future__ import annotations

import contextlib
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptmill_simulator import FaultRule, parse_fault
from promptmill_simulator.fault_rule import CONTENT, DELIVERY, UNPROCESSED, FaultKind
from promptmill_simulator.retry_after import RetryAfter

KINDS = typing.get_args(FaultKind)


def rule(**fields: object) -> FaultRule:
    return FaultRule.model_validate(fields)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("status=500,rate=0.1", rule(kind="status", status=500, rate=0.1)),
        ("rate=0.1, status=500", rule(kind="status", status=500, rate=0.1)),
        ("reset", rule(kind="reset")),
        ("kind=reset,every=50", rule(kind="reset", every=50)),
        ("truncate,bytes=10,times=2", rule(kind="truncate", bytes=10, times=2)),
        ("drip,bytes=3,pause=20ms", rule(kind="drip", bytes=3, pause=0.02)),
        ("hang,wait=30s", rule(kind="hang", wait=30)),
        (
            "status=429,retry-after=250ms,should-retry=false",
            rule(kind="status", status=429, retry_after="250ms", should_retry=False),
        ),
        ('refusal,prompt="no, \\"never\\""', rule(kind="refusal", prompt='no, "never"')),
        ("status=400,id=row-17", rule(kind="status", status=400, id="row-17")),
        ("html,on=files", rule(kind="html", on="files")),
    ],
)
def test_rules_are_read(text: str, expected: FaultRule) -> None:
    assert parse_fault(text) == expected


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "cannot read"),
        ("rate=0.1", "no kind"),
        ("reset,hang", "both kinds"),
        ("status=500,status=502", "given twice"),
        ("reset,,rate=1", "cannot read"),
        ('reset,prompt="open', "cannot read"),
        ("reset,rate=2", "less than or equal to 1"),
        ("explode", "Input should be"),
        ("reset,color=red", "Extra inputs"),
        ("status=200", "greater than or equal to 300"),
        ("reset-early,prompt=x", "before the request is read"),
        ("reset,id=x", "has no connection"),
        ("refusal,on=files", "answers of a model"),
        ("refusal,on=files.content", "answers of a model"),
        ("reset,on=files.nothing", "Input should be"),
    ],
)
def test_bad_rules_say_what_is_wrong(text: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        parse_fault(text)


def test_every_kind_has_one_class() -> None:
    assert sorted([*UNPROCESSED, *CONTENT, *DELIVERY]) == sorted(KINDS)


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
rules = st.fixed_dictionaries(
    {"kind": st.sampled_from(sorted(set(KINDS) - {"reset-early"}))},
    optional={
        "rate": st.floats(0, 1),
        "every": st.integers(1, 10**6),
        "times": st.integers(1, 10**6),
        "prompt": texts,
        "bytes": st.integers(0, 10**6),
        "should_retry": st.booleans(),
        "retry_after": st.one_of(
            st.integers(-100, 10**9).map(lambda value: RetryAfter("seconds", str(value))),
            st.integers(0, 10**6).map(lambda value: RetryAfter("ms", str(value))),
        ),
    },
)


@given(rules)
def test_the_text_form_means_the_same_rule(fields: dict[str, object]) -> None:
    made = rule(**fields)
    assert parse_fault(str(made)) == made


@given(st.text())
def test_any_text_is_a_rule_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert parse_fault(str(parse_fault(text))) == parse_fault(text)
