"""Limits, latency and faults, as a client sees them on a real socket."""

from __future__ import annotations

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

from promptmill.clock import SystemClock
from promptmill_simulator import Answer, Simulator, Task

Start = Callable[..., Simulator]
BODY: Any = {"model": "m", "messages": [{"role": "user", "content": "needle"}]}


def post(sim: Simulator, path: str = "/chat/completions", body: Any = BODY, timeout: float = 10) -> httpx.Response:
    return httpx.post(sim.base_url + path, json=body, timeout=timeout)


def raw_exchange(sim: Simulator) -> tuple[bytes, type[BaseException] | None]:
    """Everything the server sends for one request, and how the connection ended when not in peace."""
    host, port = sim.url.removeprefix("http://").split(":")
    payload = b'{"model":"m","messages":[{"role":"user","content":"x"}]}'
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        received = b""
        try:
            connection.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(payload)
            )
            # A server that resets early may have done so before all is sent.
            connection.sendall(payload)
            while piece := connection.recv(65536):
                received += piece
        except ConnectionError as error:
            return received, type(error)
        return received, None


def test_limits_are_told_and_kept(simulate: Start, client_of: Callable[..., openai.OpenAI]) -> None:
    sim = simulate(limits={"rpm": 2, "tpm": 100_000})
    client = client_of(sim)
    first = client.chat.completions.with_raw_response.create(**BODY)
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert first.headers["x-ratelimit-limit-tokens"] == "100000"
    client.chat.completions.create(**BODY)
    with pytest.raises(openai.RateLimitError) as refused:
        client.chat.completions.create(**BODY)
    assert refused.value.code == "rate_limit_exceeded"
    assert refused.value.type == "requests"
    assert 1 <= int(refused.value.response.headers["retry-after"]) <= 30
    client.chat.completions.create(**{**BODY, "model": "another"})
    assert sim.ledger()["outcomes"] == {"answered": 3, "refused": 1, "rejected": 0, "failed": 0, "done": 0}
    sim.reset()
    client.chat.completions.create(**BODY)
    assert sim.ledger()["requests"] == 1


def test_limits_can_be_kept_in_silence_and_by_the_minute(simulate: Start) -> None:
    class AtTwenty(SystemClock):
        """A clock that also answers, and whose wall says the 20th second of a minute."""

        def wall(self) -> float:
            return 1_700_000_000.0

        async def answer(self, task: Task, choice: int) -> Answer:
            return Answer("yes", "stop", task.input_tokens, 1)

    limits = {"rpm": 1, "kind": "minute", "tpm": 1000, "charging": "settle"}
    sim = simulate(clock=AtTwenty(), limits={**limits, "headers": False})
    assert not [name for name in post(sim).headers if "ratelimit" in name]
    refused = post(sim)
    assert (refused.status_code, refused.headers["retry-after-ms"]) == (429, "40000")
    assert not [name for name in refused.headers if "ratelimit" in name]
    silent = simulate(limits={"rpm": 1, "retry_after": False})
    assert [post(silent).status_code for _ in range(2)] == [200, 429]
    assert not [name for name in post(silent).headers if "retry" in name]


def test_requests_above_the_cap_are_refused_while_others_are_in_flight(simulate: Start) -> None:
    sim = simulate(latency="1s", limits={"max_in_flight": 2})
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda _: post(sim).status_code, range(4)))
    assert sorted(replies) == [200, 200, 429, 429]
    assert post(sim).status_code == 200


def test_a_wrong_wait_is_told(simulate: Start) -> None:
    sim = simulate(limits={"rpm": 1, "fixed_wait": "1"})
    assert post(sim).status_code == 200
    refused = post(sim)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert "retry-after-ms" not in refused.headers


@pytest.mark.parametrize("status", [429, 503, 529])
@pytest.mark.parametrize("wait", ["none", "0", "0.1", "1", "5", "100ms"])
def test_refusals_that_no_limit_causes_tell_the_wait_they_are_given(simulate: Start, status: int, wait: str) -> None:
    refused = post(simulate(faults=[f"status={status},retry-after={wait}"]))
    told = {name: value for name, value in refused.headers.items() if "retry" in name}
    sent = {"none": {}, "100ms": {"retry-after-ms": "100"}}.get(wait, {"retry-after": wait})
    assert (refused.status_code, told) == (status, sent)


def test_without_limits_no_limit_is_told(simulate: Start) -> None:
    assert not [name for name in post(simulate()).headers if "ratelimit" in name]


def test_latency_is_told_and_taken(simulate: Start) -> None:
    sim = simulate(latency="60ms")
    assert int(post(sim).headers["openai-processing-ms"]) >= 59


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 422, 429, 500, 503])
def test_status_faults_raise_the_clients_errors(
    simulate: Start, client_of: Callable[..., openai.OpenAI], matches_schema: Callable[[str, Any], None], status: int
) -> None:
    sim = simulate(faults=[f"status={status},retry-after=7,should-retry=true"])
    with pytest.raises(openai.APIStatusError) as failed:
        client_of(sim).chat.completions.create(**BODY)
    assert failed.value.status_code == status
    assert failed.value.response.headers["retry-after"] == "7"
    assert failed.value.response.headers["x-should-retry"] == "true"
    matches_schema("ErrorResponse", failed.value.response.json())
    assert sim.ledger()["paid_calls"] == 0


def test_reset_after_the_work_is_paid_and_before_it_is_not(simulate: Start) -> None:
    late, early = simulate(faults=["reset"]), simulate(faults=["reset-early"])
    assert raw_exchange(late) == (b"", ConnectionResetError)
    assert raw_exchange(early) == (b"", ConnectionResetError)
    assert late.ledger()["paid_calls"] == 1
    assert (early.ledger()["paid_calls"], early.ledger()["outcomes"]["failed"]) == (0, 1)


def test_truncated_replies_promise_more_than_they_bring(simulate: Start) -> None:
    received, ending = raw_exchange(simulate(faults=["truncate,bytes=25"]))
    head, _, body = received.partition(b"\r\n\r\n")
    assert (len(body), ending) == (25, None)
    promised = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length"))
    assert int(promised.split(b":")[1]) > 25
    with pytest.raises(httpx.RemoteProtocolError):
        post(simulate(faults=["truncate"]))


def test_a_hang_is_processed_and_lasts(simulate: Start) -> None:
    sim = simulate(faults=["hang"])
    with pytest.raises(httpx.ReadTimeout):
        post(sim, timeout=0.1)
    assert sim.ledger()["paid_calls"] == 1
    assert post(simulate(faults=["hang,wait=20ms"])).status_code == 200


def test_drips_arrive_whole(simulate: Start) -> None:
    assert post(simulate(faults=["drip,bytes=200,pause=1ms"])).json()["object"] == "chat.completion"


def test_close_is_only_seen_by_the_next_request(simulate: Start) -> None:
    received, ending = raw_exchange(simulate(faults=["close"]))
    assert received.startswith(b"HTTP/1.1 200")
    assert b"connection: close" not in received.lower()
    assert ending is None


@pytest.mark.parametrize(("fault", "status"), [("bad-json", 200), ("empty", 200), ("html", 502)])
def test_bodies_that_are_no_json(simulate: Start, fault: str, status: int) -> None:
    reply = post(simulate(faults=[fault]))
    assert reply.status_code == status
    with pytest.raises(ValueError):
        reply.json()


@pytest.mark.parametrize(
    ("fault", "path", "seen"),
    [
        ("error-in-200", "/chat/completions", lambda body: body["error"]["code"] == "server_error"),
        ("refusal", "/chat/completions", lambda body: body["choices"][0]["message"]["refusal"]),
        ("null-content", "/chat/completions", lambda body: body["choices"][0]["message"]["content"] is None),
        ("no-usage", "/chat/completions", lambda body: "usage" not in body),
        ("error-in-200", "/responses", lambda body: body["status"] == "failed" and body["error"]["message"]),
        ("refusal", "/responses", lambda body: body["output"][0]["content"][0]["type"] == "refusal"),
        ("null-content", "/responses", lambda body: body["output"] == []),
        ("no-usage", "/responses", lambda body: "usage" not in body),
        ("error-in-200", "/embeddings", lambda body: body["error"]["type"] == "server_error"),
        ("null-content", "/embeddings", lambda body: body["data"] == []),
        ("no-usage", "/embeddings", lambda body: "usage" not in body),
    ],
)
def test_answers_with_something_odd_in_them(
    simulate: Start, fault: str, path: str, seen: Callable[[Any], object]
) -> None:
    sim = simulate(faults=[fault])
    reply = post(sim, path, {**BODY, "input": "needle"})
    assert reply.status_code == 200
    assert seen(reply.json())
    assert sim.ledger()["paid_calls"] == 1


def test_a_prompt_can_be_singled_out(simulate: Start) -> None:
    sim = simulate(faults=["status=503,prompt=needle"])
    hay = {"model": "m", "messages": [{"role": "user", "content": "hay"}]}
    assert (post(sim).status_code, post(sim, body=hay).status_code) == (503, 200)
    assert [entry["fault"] for entry in sim.ledger()["entries"]] == ["status", None]


def test_files_and_batches_can_fail_too(simulate: Start) -> None:
    sim = simulate(faults=["status=500,on=files", "reset-early,on=models"])
    assert httpx.get(f"{sim.base_url}/files").status_code == 500
    assert httpx.get(f"{sim.base_url}/batches").status_code == 200
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{sim.base_url}/models")
    assert post(sim).status_code == 200
