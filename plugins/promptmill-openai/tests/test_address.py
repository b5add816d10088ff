from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptmill_openai.address import is_official, is_own_server, normalised


@pytest.mark.parametrize(
    ("given_url", "expected"),
    [
        ("https://api.openai.com", "https://api.openai.com/v1"),
        ("https://api.openai.com/", "https://api.openai.com/v1"),
        ("https://api.openai.com/v1", "https://api.openai.com/v1"),
        ("https://api.openai.com/v1/", "https://api.openai.com/v1"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1"),
        ("http://[::1]:8000/", "http://[::1]:8000/v1"),
        ("https://openrouter.ai/api/v1", "https://openrouter.ai/api/v1"),
        ("https://me.openai.azure.com/openai/v1/", "https://me.openai.azure.com/openai/v1"),
        ("https://host/custom//", "https://host/custom"),
    ],
)
def test_base_urls_get_one_spelling(given_url: str, expected: str) -> None:
    assert normalised(given_url) == expected
    assert normalised(expected) == expected


@pytest.mark.parametrize(
    ("base_url", "advice"),
    [
        ("", "like https"),
        ("api.openai.com", "like https"),
        ("ftp://host/v1", "like https"),
        ("https:///v1", "like https"),
        ("https://host:0/v1", "port 0"),
        ("https://host:99999/v1", "[Pp]ort"),
        ("https://user:pw@host/v1", "user name"),
        ("https://api.openai.com@evil.test/v1", "user name"),
        ("https://host/v1?api-version=2024-10-21", "query"),
        ("https://host/v1#x", "fragment"),
        ("http://api.openai.com/v1", "write https"),
        ("http://eu.api.openai.com/v1", "write https"),
        ("https://api.openai.com/v1/chat/completions", "leave that part out"),
        ("https://host/v1 ", "blanks"),
        ("https://host/\nv1", "blanks"),
    ],
)
def test_what_is_no_base_url_is_refused_with_advice(base_url: str, advice: str) -> None:
    with pytest.raises(ValueError, match=advice):
        normalised(base_url)


@pytest.mark.parametrize("host", ["api.openai.com", "eu.api.openai.com", "US.API.OpenAI.com", "api.openai.com:443"])
def test_official_hosts(host: str) -> None:
    assert is_official(normalised(f"https://{host}"))


@pytest.mark.parametrize(
    "host",
    ["api.openai.com.evil.test", "evilapi.openai.com", "openai.com", "evil.test/api.openai.com", "127.0.0.1", "openai"],
)
def test_hosts_that_only_look_official(host: str) -> None:
    assert not is_official(normalised(f"https://{host}"))


@given(st.text())
def test_any_text_is_a_base_url_or_a_value_error(text: str) -> None:
    try:
        url = normalised(text)
    except ValueError:
        return
    assert normalised(url) == url


@pytest.mark.parametrize(
    ("url", "own"),
    [
        ("http://127.0.0.1:8000/v1/chat/completions", True),
        ("http://[::1]:8000/v1/chat/completions", True),
        ("http://192.168.1.7/v1/chat/completions", True),
        ("http://vllm:8000/v1/chat/completions", True),
        ("http://gpu.internal/v1/chat/completions", True),
        ("https://api.openai.com/v1/chat/completions", False),
        ("https://api.example.com/v1/chat/completions", False),
        ("https://8.8.8.8/v1/chat/completions", False),
    ],
)
def test_a_server_of_the_users_own_is_known_by_its_address(url: str, own: bool) -> None:
    assert is_own_server(url) is own
