"""Batch objects of every shape."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptmill.batch import LineProblem
from promptmill.errors import BadOutput, Permanent, Throttled
from promptmill_openai.batch_status import file_ids, named_limit, status_of, tag_of

JSONS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=10)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.one_of(st.sampled_from(["id", "status", "errors", "data", "line", "code", "request_counts"]), st.text()),
            inner,
            max_size=6,
        ),
    ),
    max_leaves=20,
)

LIMIT = (
    "Enqueued token limit reached for gpt-x in organization org-1. Limit: 2,000,000 enqueued tokens. "
    "Please try again once some in_progress batches have been completed."
)


def batch(**members: Any) -> dict[str, Any]:
    return {"id": "batch_abc", "object": "batch", "status": "in_progress", **members}


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("validating", "pending"),
        ("in_progress", "running"),
        ("finalizing", "running"),
        ("cancelling", "cancelling"),
        ("completed", "completed"),
        ("failed", "failed"),
        ("expired", "expired"),
        ("cancelled", "cancelled"),
        ("COMPLETED", "completed"),
        ("reticulating", "running"),
        (None, "running"),
    ],
)
def test_states(word: str | None, state: str) -> None:
    status = status_of(batch(status=word), wall=0.0)
    assert (status.state, status.raw_state) == (state, word or "")


def test_counts_and_times() -> None:
    status = status_of(
        batch(request_counts={"total": 10, "completed": 7, "failed": 1}, expires_at=1_700_086_400), wall=1_700_000_000
    )
    assert (status.total, status.completed, status.failed, status.expires_in) == (10, 7, 1, 86_400)
    bare = status_of(batch(request_counts=None, expires_at=None), wall=0.0)
    assert (bare.total, bare.completed, bare.failed, bare.expires_in) == (None, None, None, None)


@pytest.mark.parametrize("wrap", [lambda data: {"object": "list", "data": data}, lambda data: data])
def test_problems_with_lines(wrap: Any) -> None:
    errors = wrap([{"code": "invalid_json_line", "message": "no JSON", "param": None, "line": 3}, {"line": True}, "x"])
    status = status_of(batch(status="failed", errors=errors), wall=0.0)
    assert list(status.problems) == [
        LineProblem(code="invalid_json_line", message="no JSON", line=3),
        LineProblem(code="batch_failed", message="the batch failed"),
    ]
    assert isinstance(status.failure, Permanent)
    assert status.failure.code == "invalid_json_line"


def test_no_room_for_more_tokens_may_pass() -> None:
    errors = {"data": [{"code": "token_limit_exceeded", "message": LIMIT, "param": None, "line": None}]}
    status = status_of(batch(status="failed", errors=errors), wall=0.0)
    assert isinstance(status.failure, Throttled)
    assert status.failure.dimension == "enqueued_tokens"
    assert named_limit(status.problems) == status.enqueued_limit == 2_000_000


@pytest.mark.parametrize("message", ["", "Limit: many", "Limit: ,", "limit"])
def test_a_limit_that_is_not_named(message: str) -> None:
    assert named_limit([LineProblem(code="token_limit_exceeded", message=message)]) is None
    assert named_limit([LineProblem(code="other", message=LIMIT)]) is None


def test_a_batch_that_failed_without_a_word() -> None:
    status = status_of(batch(status="failed", errors=None), wall=0.0)
    assert (status.failure and status.failure.code) == "batch_failed"


def test_files() -> None:
    assert file_ids(batch(output_file_id="file-1", error_file_id="")) == ("file-1", None)
    assert file_ids(batch(output_file_id=None, error_file_id="file-2")) == (None, "file-2")
    assert file_ids(batch(output_file_id="../x")) == (None, None)


def test_tags() -> None:
    assert tag_of(batch(metadata={"t": "run-1"}), "t") == "run-1"
    for value in (batch(metadata=None), batch(metadata={"t": 1}), batch(), None, []):
        assert tag_of(value, "t") is None


@pytest.mark.parametrize("handle", [None, "", 7, "a/b", "../x", "b\n", "x" * 201])
def test_an_id_that_is_none(handle: object) -> None:
    with pytest.raises(BadOutput):
        status_of(batch(id=handle), wall=0.0)


@given(JSONS)
def test_any_json_is_a_status_or_no_batch(value: Any) -> None:
    try:
        status = status_of(value, wall=0.0)
    except BadOutput:
        return
    assert status.handle == value["id"]


@given(JSONS, JSONS, JSONS)
def test_any_members_are_taken(errors: Any, counts: Any, state: Any) -> None:
    status = status_of(batch(errors=errors, request_counts=counts, status=state, expires_at=counts), wall=0.0)
    assert status.is_final == (status.state in {"completed", "failed", "expired", "cancelled"})
    assert (status.failure is not None) == (status.state == "failed")
