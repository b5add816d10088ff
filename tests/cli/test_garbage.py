"""The garbage collector during a run."""

from __future__ import annotations

import gc

from promptmill._garbage import NEW_OBJECTS, seldom_collected


def test_what_was_there_is_left_alone_and_the_rest_collected_seldom() -> None:
    before = gc.get_threshold()
    assert before[0] < NEW_OBJECTS
    with seldom_collected():
        assert gc.get_freeze_count() > 0
        assert gc.get_threshold() == (NEW_OBJECTS, *before[1:])
        assert gc.isenabled()
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0


def test_an_error_puts_it_back_too() -> None:
    before = gc.get_threshold()
    try:
        with seldom_collected():
            raise ValueError
    except ValueError:
        pass
    assert gc.get_threshold() == before
