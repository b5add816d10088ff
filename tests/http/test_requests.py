"""What goes out and what comes back, when all is well."""

from __future__ import annotations

import subprocess
import sys

import anyio
import pytest

from promptmill.errors import BadOutput, NeverSent, Transient, UsageError
from promptmill.http import HttpClient, HttpSettings, open_client
from promptmill.testing.badserver import BadServer, Hang, Pause, Send, chunked_reply, http_reply


async def test_the_request_is_sent_as_given(client: HttpClient) -> None:
    async with BadServer() as server:
        await client.request(
            "POST",
            f"{server.url}/v1/x%2Fy/z?a=b%20c&d=1",
            headers={"Authorization": "Bearer k", "content-type": "application/json"},
            body=b'{"a": 1}',
            timeout=5,
        )
    (received,) = server.requests
    assert (received.method, received.target, received.body) == ("POST", "/v1/x%2Fy/z?a=b%20c&d=1", b'{"a": 1}')
    assert received.headers["authorization"] == "Bearer k"
    assert received.headers["content-type"] == "application/json"
    assert received.headers["content-length"] == "8"
    assert received.headers["accept-encoding"] == "gzip, deflate"
    assert received.headers["user-agent"] == "promptmill"
    assert "cookie" not in received.headers


async def test_headers_may_override_ours(client: HttpClient) -> None:
    headers = {"User-Agent": "mine/1", "Accept-Encoding": "identity"}
    async with BadServer() as server:
        await client.post(server.url, headers=headers, body=b"", timeout=5)
    assert server.requests[0].headers["user-agent"] == "mine/1"
    assert server.requests[0].headers["accept-encoding"] == "identity"


async def test_no_header_is_made_up(client: HttpClient) -> None:
    async with BadServer() as server:
        await client.post(server.url, headers={}, body=b"x", timeout=5)
        await client.post(server.url, headers={"content-type": "text/plain"}, body=b"x", timeout=5)
        await client.post(server.url, headers={"Content-Type": "text/plain"}, body=b"x", timeout=5)
    made_up = {"content-type", "cookie", "authorization"}
    assert [made_up & set(one.headers) for one in server.requests] == [set(), {"content-type"}, {"content-type"}]
    assert [one.headers.get("content-type") for one in server.requests] == [None, "text/plain", "text/plain"]


async def test_get_has_no_body(client: HttpClient) -> None:
    async with BadServer([http_reply(b"[1]")]) as server:
        reply = await client.request("GET", server.url + "/models", headers={}, timeout=5)
    assert reply.json() == [1]
    assert server.requests[0].body == b""


async def test_large_bodies_both_ways(client: HttpClient) -> None:
    large = bytes(range(256)) * 20_000
    async with BadServer(lambda received: http_reply(received.body)) as server:
        reply = await client.post(server.url, headers={}, body=large, timeout=20)
    assert server.requests[0].body == large
    assert reply.body == large


@pytest.mark.parametrize("status", [200, 201, 204, 302, 400, 401, 404, 429, 500, 503, 529, 599])
async def test_any_status_is_a_reply(client: HttpClient, status: int) -> None:
    body = b"" if status == 204 else b'{"a": 1}'
    async with BadServer([http_reply(body, status=status), http_reply(b"[]")]) as server:
        reply = await client.post(server.url, headers={}, body=b"{}", timeout=5)
        assert (reply.status, reply.body) == (status, body)
        assert (await client.post(server.url, headers={}, body=b"{}", timeout=5)).json() == []


async def test_headers_have_lower_case_names(client: HttpClient) -> None:
    sent = [("X-Request-ID", "abc"), ("Retry-After", " 3 "), ("Twice", "1"), ("twice", "2")]
    async with BadServer([http_reply(headers=sent)]) as server:
        reply = await client.post(server.url, headers={}, body=b"{}", timeout=5)
    assert reply.headers["x-request-id"] == "abc"
    assert reply.headers["retry-after"] == "3"
    assert reply.headers["twice"] == "2"
    assert type(reply.headers) is dict


async def test_bytes_that_are_not_ascii_in_a_header(client: HttpClient) -> None:
    raw = b"HTTP/1.1 200 OK\r\nx-name: caf\xc3\xa9\r\nx-odd: caf\xe9\r\ncontent-length: 2\r\n\r\n{}"
    async with BadServer([raw]) as server:
        reply = await client.post(server.url, headers={}, body=b"{}", timeout=5)
    assert reply.headers["x-name"] == "café"
    assert reply.headers["x-odd"] == "caf\N{REPLACEMENT CHARACTER}"


async def test_long_headers_are_fine(client: HttpClient) -> None:
    many = [(f"x-{number}", "y" * 300) for number in range(100)] + [("content-security-policy", "z" * 20_000)]
    async with BadServer([http_reply(headers=many)]) as server:
        reply = await client.post(server.url, headers={}, body=b"{}", timeout=5)
    assert reply.headers["content-security-policy"] == "z" * 20_000


async def test_chunks_and_bodies_without_length(client: HttpClient) -> None:
    until_the_end = b"HTTP/1.0 200 OK\r\n\r\n[2]"
    script = [chunked_reply([b"[", b"1", b"]"]), [Send(until_the_end, every=0.001, size=5)]]

    async with BadServer(lambda _: script[0]) as server:
        assert (await client.post(server.url, headers={}, body=b"{}", timeout=5)).json() == [1]


async def test_a_connection_is_used_again(client: HttpClient) -> None:
    async with BadServer([http_reply(), chunked_reply([b"{}"]), http_reply(b"", status=204)]) as server:
        for _ in range(6):
            await client.post(server.url, headers={}, body=b"{}", timeout=5)
    assert server.connections == 1


async def test_redirects_are_not_followed(client: HttpClient) -> None:
    async with BadServer() as elsewhere:
        moved = http_reply(b"", status=307, headers=[("location", elsewhere.url + "/steal")])
        async with BadServer([moved]) as server:
            reply = await client.post(server.url, headers={"authorization": "Bearer k"}, body=b"{}", timeout=5)
        assert reply.status == 307
        assert reply.headers["location"] == elsewhere.url + "/steal"
        assert elsewhere.requests == []


async def test_cookies_are_not_kept(client: HttpClient) -> None:
    async with BadServer([http_reply(headers=[("set-cookie", "a=b; Path=/"), ("set-cookie", "c=d")])]) as server:
        for _ in range(2):
            await client.post(server.url, headers={}, body=b"{}", timeout=5)
    assert all("cookie" not in received.headers for received in server.requests)


@pytest.mark.parametrize("value", ["hush\r\nx-more: 1", "hush\udc80"], ids=["a line break", "half a character"])
async def test_a_header_that_cannot_be_one_is_never_sent(client: HttpClient, value: str) -> None:
    async with BadServer() as server:
        with pytest.raises((NeverSent, Transient)) as caught:
            await client.post(server.url, headers={"x-key": value}, body=b"{}", timeout=5)
    assert server.requests == []
    assert "hush" not in str(caught.value)


async def test_two_hundred_at_once(opened) -> None:
    client = await opened(connections=200)
    async with BadServer(lambda received: [Pause(0.05), Send(http_reply(received.body))]) as server:
        answers = [b""] * 200

        async def ask(number: int) -> None:
            answers[number] = (await client.post(server.url, headers={}, body=b"%d" % number, timeout=20)).body

        async with anyio.create_task_group() as tasks:
            for number in range(200):
                tasks.start_soon(ask, number)
    assert answers == [b"%d" % number for number in range(200)]
    assert server.connections <= 200


@pytest.mark.parametrize("limit", [3, 20])
async def test_no_more_connections_than_allowed(opened, limit: int) -> None:
    client = await opened(connections=limit)
    async with BadServer(lambda _: [Pause(0.005), Send(http_reply())]) as server:

        async def ask() -> None:
            await client.post(server.url, headers={}, body=b"{}", timeout=20)

        async with anyio.create_task_group() as tasks:
            for _ in range(60):
                tasks.start_soon(ask)
    assert len(server.requests) == 60
    assert server.connections <= limit


async def test_no_connection_becomes_free(opened) -> None:
    client = await opened(connections=1)
    async with BadServer([[Hang()]]) as server, anyio.create_task_group() as tasks:

        async def hold() -> None:
            with pytest.raises(Transient):
                await client.post(server.url, headers={}, body=b"{}", timeout=0.5)

        tasks.start_soon(hold)
        await server.wait_for(lambda server: len(server.requests) == 1)
        with pytest.raises((NeverSent, Transient)) as caught:
            await client.post(server.url, headers={}, body=b"{}", timeout=0.1)
        assert caught.value.code in ("connect_timeout", "timeout")
        assert len(server.requests) == 1


async def test_settings_win_over_the_number_of_calls(backend: str) -> None:
    settings = HttpSettings.model_validate({"backend": backend, "connections": 2})
    async with (
        BadServer(lambda _: [Pause(0.005), Send(http_reply())]) as server,
        open_client(settings, connections=50) as client,
        anyio.create_task_group() as tasks,
    ):
        for _ in range(20):
            tasks.start_soon(lambda: client.post(server.url, headers={}, body=b"{}", timeout=20))
    assert server.connections <= 2


async def test_without_a_time_limit(client: HttpClient) -> None:
    async with BadServer([http_reply(b"[3]")]) as server:
        assert (await client.post(server.url, headers={}, body=b"{}", timeout=float("inf"))).json() == [3]


async def test_bodies_that_are_not_json(client: HttpClient) -> None:
    async with BadServer([http_reply(b"<html>Bad gateway</html>")]) as server:
        reply = await client.post(server.url, headers={}, body=b"{}", timeout=5)
    with pytest.raises(BadOutput, match="Bad gateway"):
        reply.json()


async def test_a_ca_file_that_is_none(opened, tmp_path) -> None:
    for path in (tmp_path / "missing.pem", tmp_path):
        with pytest.raises(UsageError, match="CA file"):
            await opened(ca_file=path)
    empty = tmp_path / "empty.pem"
    empty.write_text("not a certificate")
    with pytest.raises(UsageError, match="CA file"):
        await opened(ca_file=empty)


def test_importing_it_imports_no_http_client() -> None:
    code = "import sys, promptmill.http; print(sorted({'aiohttp', 'httpx', 'httpcore'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
