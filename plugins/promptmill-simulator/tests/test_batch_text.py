from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptmill_simulator import BatchLooks, BatchScript, BatchTimes, LineTroubles, SimulatorOptions, parse_batch


def script(**fields: Any) -> BatchScript:
    return BatchScript.model_validate(fields)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nth=1,ending=expired,done=0.5", script(nth=1, ending="expired", done=0.5)),
        ("done=0.5, nth=1", script(nth=1, done=0.5)),
        ("metadata=shard=3,metadata=run=a=b", script(metadata={"shard": "3", "run": "a=b"})),
        ('metadata="shard=1, \\"two\\""', script(metadata={"shard": '1, "two"'})),
        ("errors=0.2,status=429,status=503", script(lines={"errors": 0.2, "status": (429, 503)})),
        ("stuck=in_progress,stuck=cancelling", script(stuck=("in_progress", "cancelling"))),
        ("validating=1s,shuffle=false", script(times={"validating": 1, "shuffle": False})),
        ("not-found=1..3,odd-status=4..", script(looks={"not_found": "1..3", "odd_status": "4.."})),
        ("fail=empty_file", script(fail_with=[{"code": "empty_file"}])),
        (
            "fail=bad,line=2,line=7,message=no",
            script(fail_with=[{"code": "bad", "line": line, "message": "no"} for line in (2, 7)]),
        ),
        ("nulls,first=2", script(nulls=True, first=2)),
    ],
)
def test_scripts_are_read(text: str, expected: BatchScript) -> None:
    assert parse_batch(text) == expected


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "cannot read"),
        ("nth=1,nth=2", "given twice"),
        ("color=red", "Extra inputs"),
        ("ending=failed", "'completed', 'expired' or 'cancelled'"),
        ("stuck=completed", "'finalizing' or 'cancelling'"),
        ("done=2", "less than or equal to 1"),
        ("status=200", "greater than or equal to 300"),
        ("errors=0.7,missing=0.4", "more than all lines"),
        ("stall-at=0.5,ending=expired", "waits for the window"),
        ("fail=bad,ending=expired", "does not end as 'expired' too"),
        ("line=2", "belong to fail=CODE"),
        ("message=x", "belong to fail=CODE"),
        ("metadata=shard", "metadata is KEY=VALUE"),
        ("not-found=0", "no range of looks"),
        ("not-found=3..2", "runs backwards"),
    ],
)
def test_bad_scripts_say_what_is_wrong(text: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        parse_batch(text)


def test_options_take_the_text_form_and_stages_alone() -> None:
    options = SimulatorOptions.model_validate({"scripts": ["nth=1,done=0.5", {"stuck": "validating"}]})
    assert options.scripts == (script(nth=1, done=0.5), script(stuck=("validating",)))


def test_no_key_belongs_to_two_parts() -> None:
    fields = [name for model in (BatchScript, BatchTimes, LineTroubles, BatchLooks) for name in model.model_fields]
    assert len(fields) == len(set(fields))


@given(st.text())
def test_any_text_is_a_script_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(parse_batch(text), BatchScript)
