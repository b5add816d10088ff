from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from promptmill.errors import UsageError
from promptmill.models import Request
from promptmill.options import BuildContext
from promptmill_openai import OpenAIChatOptions, OpenAIEmbeddingsOptions, OpenAIResponsesOptions
from promptmill_openai.endpoint import Endpoint

KEY = "sk-canary-4242424242"


def endpoint(context: BuildContext | None = None, **settings: Any) -> Endpoint:
    options = OpenAIChatOptions.model_validate({"model": "gpt-x", **settings})
    return options.endpoint_at("/chat/completions", context or BuildContext(name="fast"))


def test_the_default_server_and_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    made = endpoint()
    assert made.url == "https://api.openai.com/v1/chat/completions"
    assert made.key is not None
    assert made.key.reveal() == KEY


def test_a_missing_key_for_the_default_server_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"'fast' has no key for 'https://api\.openai\.com/v1'") as caught:
        endpoint()
    assert caught.value.exit_code == 2
    assert "OPENAI_API_KEY" in (caught.value.hint or "")


def test_a_named_key_that_is_not_set_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="OTHER_KEY"):
        endpoint(api_key="env:OTHER_KEY")


def test_another_server_needs_no_key_and_never_gets_the_default_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert endpoint(base_url="http://127.0.0.1:8000").key is None
    assert endpoint(base_url="https://api.openai.com.evil.test/v1").key is None


def test_a_regional_server_gets_the_default_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert endpoint(base_url="https://eu.api.openai.com/v1").key is not None


def test_another_server_gets_the_key_the_job_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    made = endpoint(base_url="http://127.0.0.1:8000", api_key="env:OPENAI_API_KEY")
    assert made.key is not None


def test_the_key_may_be_in_a_file_beside_the_job(tmp_path: Path) -> None:
    (tmp_path / "key.txt").write_text(KEY + "\n", encoding="utf-8")
    made = endpoint(BuildContext(name="fast", base_dir=tmp_path), api_key="file:key.txt")
    assert made.key is not None
    assert made.key.reveal() == KEY


@pytest.mark.parametrize("key", ["sk-one\nsk-two", "sk-with blank", "sk-\u201cquoted\u201d"])
def test_what_cannot_be_a_key_is_a_usage_error_that_does_not_show_it(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", key)
    with pytest.raises(UsageError, match="env:MY_KEY") as caught:
        endpoint(api_key="env:MY_KEY")
    assert key not in repr(caught.value.problems)


def test_the_base_url_of_the_environment_is_used_when_the_job_names_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://10.0.0.5:8000/")
    assert endpoint().url == "http://10.0.0.5:8000/v1/chat/completions"
    assert endpoint(base_url="http://127.0.0.1:9").url == "http://127.0.0.1:9/v1/chat/completions"


def test_a_wrong_base_url_in_the_environment_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "localhost:8000")
    with pytest.raises(UsageError, match="OPENAI_BASE_URL"):
        endpoint()


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ({"api_key": "sk-literal"}, "env:NAME"),
        ({"headers": {"Authorization": "Bearer sk-literal"}}, "use api_key"),
        ({"headers": {"x-api-key": "sk-literal"}}, "use api_key"),
        ({"headers": {"Content-Length": "3"}}, "set by promptmill"),
        ({"headers": {"bad name": "x"}}, "no header name"),
        ({"headers": {"x-a": "one\r\nx-b: two"}}, "one line"),
        ({"organization": "org\nx"}, "one line"),
        ({"model": ""}, "at least 1 character"),
        ({"base_url": "localhost"}, "like https"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_wrong_options_are_refused_without_showing_a_secret(settings: dict[str, Any], advice: str) -> None:
    with pytest.raises(ValidationError, match=advice) as caught:
        endpoint(**settings)
    assert "sk-literal" not in str(caught.value)


def test_the_model_is_required() -> None:
    with pytest.raises(ValidationError, match="model"):
        OpenAIChatOptions.model_validate({})


async def test_a_call_before_opening_is_a_bug_and_says_so(question: Request) -> None:
    options = OpenAIChatOptions.model_validate({"model": "gpt-x", "base_url": "http://127.0.0.1:9"})
    with pytest.raises(RuntimeError, match="async with"):
        await options.build(BuildContext(name="fast")).complete(question, timeout=1)


HOW = {
    "organization": "org",
    "project": "proj",
    "http": {"backend": "httpx", "connections": 3},
    "api_key": "env:OTHER_KEY",
    "max_concurrency": 3,
    "limits": {"rpm": 5},
    "timeout": "9s",
}
WHAT = {
    "model": "gpt-x",
    "base_url": "http://127.0.0.1:8000/v1",
    "headers": {"x-a": "1"},
    "extra_body": {"seed": 3},
}


@pytest.mark.parametrize(
    ("options", "more"),
    [
        (OpenAIChatOptions, {"service_tier": "flex"}),
        (OpenAIResponsesOptions, {"service_tier": "flex"}),
        (OpenAIEmbeddingsOptions, {}),
    ],
)
def test_the_identity_is_what_changes_answers(options: type[OpenAIChatOptions], more: dict[str, str]) -> None:
    one = options.model_validate(WHAT | HOW | more).identity()
    assert {**one, "headers": None} == {**WHAT, "headers": None}
    other = options.model_validate(WHAT | HOW | more | {"headers": {"x-a": "2"}}).identity()
    assert one["headers"].keys() == other["headers"].keys() == {"x-a"}
    assert one["headers"] != other["headers"]
