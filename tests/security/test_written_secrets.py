"""Secrets that were written into a job: refused, and shown neither in the message nor in what a run leaves behind."""

from __future__ import annotations

import json
from typing import Any

import pytest

from promptmill.secrets import names_a_secret

CANARY = "canary4f1e2d77aa"

HEAD = """version: 1
input: {path: prompts.jsonl}
output: answers.jsonl
"""


def provider(lines: str) -> str:
    return f"{HEAD}providers:\n  fast:\n    use: openai-chat\n    model: m\n{lines}"


WRONG = {
    "user in base_url": provider(f'    base_url: "https://user:{CANARY}@h.example/v1"\n'),
    "user in a plain base_url": provider(f"    base_url: https://{CANARY}@h.example/v1\n"),
    "query of base_url": provider(f"    base_url: https://h.example/v1?key={CANARY}\n"),
    "fragment of base_url": provider(f"    base_url: 'https://h.example/v1#{CANARY}'\n"),
    "escapes": provider(f'    base_url: "https:\\x2f\\x2fuser:{CANARY}\\x40h.example/v1"\n'),
    "no scheme": provider(f"    base_url: user:{CANARY}@h.example\n"),
    "the key as base_url": provider(f"    base_url: {CANARY}\n"),
    "the value on the next line": provider(f"    base_url:\n      https://h.example/v1?key={CANARY}\n"),
    "block text": provider(f"    base_url: >-\n      https://user:{CANARY}@h.example/v1\n"),
    "in one line with a mistake": provider(f'    http: {{proxy: "http://u:{CANARY}@p.example", prxy: 1}}\n'),
    "not YAML": provider(f'    base_url: "https://user:{CANARY}@h.example/v1\n'),
    "x-goog-api-key": provider(f"    headers: {{x-goog-api-key: {CANARY}}}\n"),
    "x-auth-token": provider(f"    headers:\n      x-auth-token: {CANARY}\n"),
    "subscription key": provider(f"    headers: {{Ocp-Apim-Subscription-Key: {CANARY}}}\n"),
    "header on the next line": provider(f"    headers:\n      x-api-key:\n        {CANARY}\n"),
    "header with a mistake": provider(f'    headers: {{x-plain: "{CANARY}\\n"}}\n'),
    "extra_body": provider(f"    extra_body: {{api_key: {CANARY}}}\n"),
    "deep in extra_body": provider(f"    extra_body: {{tools: [{{type: mcp, authorization: {CANARY}}}]}}\n"),
    "params": provider("") + f"params: {{clientSecret: {CANARY}}}\n",
    "pool": provider(f"    pool: [{{headers: {{x-auth: {CANARY}}}}}]\n"),
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("command", ["check", "run"])
def test_it_is_refused_and_not_shown(desk: Any, text: str, command: str) -> None:
    desk.prompts(1)
    desk.job.write_text(text)
    done = desk.run(command, "job.yaml", env={"OPENAI_API_KEY": "sk-x"})
    assert done.code == 2, done.err
    assert "error[E0" in done.err
    assert CANARY not in done.err + done.out
    assert CANARY.encode() not in b"".join(one.read_bytes() for one in desk.root.rglob(".promptmill/**/*.db*"))


def test_a_reference_is_sent_and_left_nowhere(desk: Any, sim: Any) -> None:
    desk.prompts(2)
    (desk.root / "key").write_text(CANARY)
    (desk.root / "key").chmod(0o600)
    desk.write(provider={"headers": {"x-goog-api-key": "file:key", "x-team": "red"}})
    done = desk.run("run", "job.yaml")
    assert done.code == 0, done.err
    assert "file:key goes to" in done.err
    (desk.root / "key").unlink()
    left = b"".join(path.read_bytes() for path in desk.root.rglob("*") if path.is_file())
    assert b"question" in left
    assert CANARY.encode() not in left + done.err.encode()
    (desk.root / "key").write_text(f"{CANARY}-rotated")
    desk.prompts([{"id": f"q{at}", "prompt": f"question {at}"} for at in range(3)])
    again = desk.run("run", "job.yaml")
    assert again.code == 0, again.err
    assert CANARY not in again.err


def test_a_reference_reaches_the_server(desk: Any) -> None:
    import socket
    import threading

    heard: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def listen() -> None:
        connection, _ = listener.accept()
        with connection:
            heard.append(connection.recv(65536))

    threading.Thread(target=listen, daemon=True).start()
    desk.prompts(1)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    desk.write(provider={"base_url": url, "headers": {"x-goog-api-key": "env:GOOG"}, "timeout": "2s"}, retry=None)
    desk.run("run", "job.yaml", env={"GOOG": CANARY})
    listener.close()
    assert f"x-goog-api-key: {CANARY}".encode() in b"".join(heard)


@pytest.mark.parametrize("name", ["x-internal", "x-goog-api-key"])
def test_a_changed_header_is_shown_neither_old_nor_new(desk: Any, name: str) -> None:
    desk.prompts(2)
    values = {"x-internal": (CANARY, f"{CANARY}-rotated"), "x-goog-api-key": ("env:ONE", "env:TWO")}[name]
    environment = {"ONE": CANARY, "TWO": f"{CANARY}-rotated"}
    desk.write(provider={"headers": {name: values[0]}})
    assert desk.run("run", "job.yaml", env=environment).code == 0
    left = b"".join(path.read_bytes() for path in desk.root.rglob(".promptmill/**/*") if path.is_file())
    assert b"question" in left
    assert CANARY.encode() not in left
    desk.write(provider={"headers": {name: values[1]}})
    done = desk.run("run", "job.yaml", env=environment)
    assert ("error[E0340]" in done.err) is (name == "x-internal")
    assert CANARY not in done.err


def test_a_journal_of_an_older_version_that_holds_one(desk: Any) -> None:
    from promptmill._journal import Store

    desk.prompts(2)
    desk.write(provider={"headers": {"x-goog-api-key": "env:DESK_KEY"}})
    assert desk.run("run", "job.yaml").code == 0
    store = Store.open(desk.root / ".promptmill" / "job" / "run" / "journal.db")
    job = json.loads(json.dumps(store.meta("job")))
    job["providers"]["fast"]["headers"] = {"x-goog-api-key": CANARY}
    store.put_meta("job", job)
    store.close()
    done = desk.run("run", "job.yaml")
    assert "error[E0340]" in done.err
    assert CANARY not in done.err


def test_what_is_no_secret_may_be_written(desk: Any) -> None:
    desk.prompts(1)
    body = {"prompt_cache_key": "a", "eos_token": "</s>", "max_tokens": 5, "metadata": {"team": "red"}}
    desk.write(provider={"extra_body": body, "headers": {"idempotency-key": "7", "x-team": "red"}})
    done = desk.run("check", "job.yaml")
    assert done.code == 0, done.err


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("x-goog-api-key", True),
        ("Ocp-Apim-Subscription-Key", True),
        ("X-Auth-Token", True),
        ("apiKey", True),
        ("APIKEY", True),
        ("client_secret", True),
        ("X-Amz-Security-Token", True),
        ("key", True),
        ("x-api-key-2", True),
        ("max_tokens", False),
        ("prompt_cache_key", False),
        ("eos_token", False),
        ("keyboard", False),
        ("monkey", False),
        ("", False),
    ],
)
def test_names_of_secrets(name: str, is_one: bool) -> None:
    assert names_a_secret(name) is is_one
