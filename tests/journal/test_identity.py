"""What makes two requests the same, also where their values fit no fixed width."""

from __future__ import annotations

import pytest

from promptmill._journal import prompt_digest, request_digest
from promptmill.testing import request


@pytest.mark.parametrize("odd", [2**70, -(2**70), "\ud800", [2**70]])
def test_every_value_json_can_hold_has_a_digest(odd: object) -> None:
    one, same, other = (request(params={"seed": seed}) for seed in (odd, odd, [odd]))
    for digest in (prompt_digest, request_digest):
        assert digest(one) == digest(same) != digest(other)
