from __future__ import annotations

import random

import pytest

from promptmill import jsontext
from promptmill_simulator import parse_fault
from promptmill_simulator.faults import Faults, unprocessed_reply
from promptmill_simulator.task import Digester


def faults(*rules: str, seed: int = 0) -> Faults:
    return Faults([parse_fault(rule) for rule in rules], Digester(seed))


def hits(book: Faults, keys: list[bytes]) -> set[bytes]:
    return {key for key in keys if book.choose("chat", key=key) is not None}


KEYS = [b"%016d" % number for number in range(2000)]


def test_a_rate_hits_its_share_in_any_order_of_arrival() -> None:
    first = hits(faults("reset,rate=0.1"), KEYS)
    shuffled = list(KEYS)
    random.Random(1).shuffle(shuffled)
    assert hits(faults("reset,rate=0.1"), shuffled) == first
    assert 140 < len(first) < 260


def test_the_seed_changes_who_is_hit() -> None:
    assert hits(faults("reset,rate=0.1", seed=1), KEYS) != hits(faults("reset,rate=0.1", seed=2), KEYS)


def test_a_repeated_question_is_drawn_anew() -> None:
    book = faults("reset,rate=0.5")
    drawn = [book.choose("chat", key=b"same") is not None for _ in range(100)]
    assert 25 < sum(drawn) < 75


def test_reset_starts_the_draws_again() -> None:
    book = faults("reset,rate=0.5", "html,times=1")
    before = [book.choose("chat", key=b"same") for _ in range(20)]
    book.reset()
    assert [book.choose("chat", key=b"same") for _ in range(20)] == before


def test_every_and_times() -> None:
    every = faults("reset,every=3")
    assert [every.choose("chat") is not None for _ in range(7)] == [False, False, True, False, False, True, False]
    times = faults("reset,times=2")
    assert [times.choose("chat") is not None for _ in range(4)] == [True, True, False, False]


def test_prompt_id_and_operation_must_match() -> None:
    book = faults("reset,prompt=needle")
    assert book.choose("chat", "hay") is None
    assert book.choose("chat", "a needle in hay") is not None
    by_id = faults("status=400,id=r-7")
    assert by_id.choose("batch-line", custom_id="r-7") is not None
    assert by_id.choose("batch-line", custom_id="r-8") is None
    assert by_id.choose("chat") is None
    plain = faults("reset")
    assert plain.choose("embeddings") is not None
    assert plain.choose("files") is None
    assert faults("reset,on=files").choose("files.list") is not None
    assert faults("reset,on=files.content").choose("files.list") is None
    assert faults("reset,on=files.content").choose("files.content") is not None
    assert faults("reset-early,on=batches.create").early("batches.create") is not None
    assert faults("reset-early,on=batches.create").early("batches.list") is None


def test_a_rate_draws_for_an_endpoint_as_for_its_group() -> None:
    whole, one = faults("reset,rate=0.5,on=files"), faults("reset,rate=0.5,on=files.list")
    assert [whole.choose("files.list") is None for _ in range(20)] == [
        one.choose("files.list") is None for _ in range(20)
    ]


def test_the_first_rule_that_hits_counts() -> None:
    book = faults("status=401,prompt=x", "status=503")
    first, second = book.choose("chat", "x"), book.choose("chat", "y")
    assert first is not None
    assert second is not None
    assert (first.status, second.status) == (401, 503)


def test_early_rules_are_kept_apart() -> None:
    book = faults("reset-early,times=1", "html")
    early, late = book.early("chat"), book.choose("chat")
    assert early is not None
    assert late is not None
    assert (early.kind, late.kind) == ("reset-early", "html")
    assert book.early("chat") is None


@pytest.mark.parametrize(
    ("rule", "code", "kind"),
    [
        ("status=429", "rate_limit_exceeded", "requests"),
        ("status=429,type=insufficient_quota,code=insufficient_quota", "insufficient_quota", "insufficient_quota"),
        ("status=500", "server_error", "server_error"),
        ("status=503", "server_is_overloaded", "server_error"),
        ("status=418", None, "invalid_request_error"),
        ("status=599", "server_error", "server_error"),
    ],
)
def test_status_replies_say_what_such_errors_say(rule: str, code: str | None, kind: str) -> None:
    reply = unprocessed_reply(parse_fault(rule), 0.0)
    error = jsontext.decode(reply.body)["error"]
    assert (error["code"], error["type"]) == (code, kind)
    assert reply.status == parse_fault(rule).status


def test_html_is_html() -> None:
    reply = unprocessed_reply(parse_fault("html"), 0.0)
    assert (reply.status, reply.headers) == (502, [(b"content-type", b"text/html")])
    assert reply.body.startswith(b"<html>")
