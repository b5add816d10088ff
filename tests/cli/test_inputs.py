"""What people feed a run: empty, huge, compressed, piped, spread over files, and broken in places."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

LINE_SEPARATORS = "one\N{LINE SEPARATOR}two\N{PARAGRAPH SEPARATOR}three\x85four"


def texts(desk: Any) -> list[str]:
    return [one["text"] for one in desk.records()]


def test_an_empty_input_is_no_error(desk: Any, sim: Any) -> None:
    desk.prompts(b"")
    desk.write()
    done = desk.run("run", "job.yaml", "--json")
    assert done.code == 0, done.err
    assert (done.summary["total"], done.summary["resumable"]) == (0, False)
    assert desk.answers.read_bytes() == b""
    assert sim.ledger(0)["requests"] == 0


@pytest.mark.parametrize("end", [b"\n", b"", b"\r\n", b"\n\n\n"], ids=["newline", "nothing", "crlf", "blank lines"])
def test_one_line(desk: Any, end: bytes) -> None:
    desk.prompts(b'{"prompt": "the only one"}' + end)
    desk.write()
    done = desk.run("run", "job.yaml", "--json")
    assert (done.code, done.summary["total"]) == (0, 1), done.err
    assert [(one["id"], one["text"]) for one in desk.records()] == [("1", "the only one")]


def test_a_compressed_file(desk: Any) -> None:
    desk.prompts(gzip.compress(b"".join(b'{"prompt": "p%d"}\n' % at for at in range(50))), "prompts.jsonl.gz")
    desk.write(input={"path": "prompts.jsonl.gz"})
    done = desk.run("run", "job.yaml")
    assert done.code == 0, done.err
    assert texts(desk) == [f"p{at}" for at in range(50)]


def test_standard_input(desk: Any) -> None:
    desk.write(input={"path": "-"})
    done = desk.run("run", "job.yaml", "--json", stdin=b'{"prompt": "first"}\n{"prompt": "second"}')
    assert (done.code, done.summary["total"]) == (0, 2), done.err
    assert texts(desk) == ["first", "second"]


def test_files_by_a_pattern_in_order_of_their_names(desk: Any) -> None:
    (desk.root / "in").mkdir()
    for name in ("b", "a", "c"):
        desk.prompts([{"id": f"{name}{at}", "prompt": f"{name}{at}"} for at in range(2)], f"in/{name}.jsonl")
    desk.write(input={"path": "in/*.jsonl"})
    done = desk.run("run", "job.yaml")
    assert done.code == 0, done.err
    assert texts(desk) == ["a0", "a1", "b0", "b1", "c0", "c1"]


def test_a_table(desk: Any) -> None:
    desk.prompts(b'row,question,note\r\nx,"Is ""this"", quoted?",1\r\ny,"two\nlines",2\r\n', "prompts.csv")
    desk.write(input={"path": "prompts.csv", "id": "row", "prompt": "{{ question }}", "keep": ["note"]})
    done = desk.run("run", "job.yaml")
    assert done.code == 0, done.err
    assert [(one["id"], one["text"], one["meta"]) for one in desk.records()] == [
        ("x", 'Is "this", quoted?', {"note": "1"}),
        ("y", "two\nlines", {"note": "2"}),
    ]


def test_characters_that_look_like_line_ends_are_none(desk: Any) -> None:
    line = json.dumps({"id": "x", "prompt": LINE_SEPARATORS}, ensure_ascii=False).encode()
    desk.prompts(line + b"\n")
    desk.write()
    done = desk.run("run", "job.yaml", "--json")
    assert (done.code, done.summary["total"]) == (0, 1), done.err
    assert [(one["id"], one["text"]) for one in desk.records()] == [("x", LINE_SEPARATORS)]


def test_a_byte_order_mark_is_passed_over(desk: Any) -> None:
    desk.prompts(b"\xef\xbb\xbf" + b'{"prompt": "marked"}\n')
    desk.write()
    done = desk.run("run", "job.yaml")
    assert done.code == 0, done.err
    assert texts(desk) == ["marked"]


def test_broken_lines_become_failed_records_that_say_where(desk: Any, sim: Any) -> None:
    lines = [b'{"prompt": "good"}', b'{"prompt": ', b"\xff\xfe broken", b"[1]", b'{"prompt": "good too"}']
    desk.prompts(b"\n".join(lines) + b"\n")
    desk.write()
    done = desk.run("run", "job.yaml", "--json")
    assert done.code == 1, done.err
    assert (done.summary["succeeded"], done.summary["failed"]) == (2, 3)
    records = desk.records()
    assert [one["status"] for one in records] == ["ok", "failed", "failed", "failed", "ok"]
    assert [one["id"] for one in records] == ["1", "2", "3", "4", "5"]
    offset = 0
    for number, (line, record) in enumerate(zip(lines, records, strict=True), start=1):
        if record["error"]:
            assert f"prompts.jsonl:{number} (byte {offset})" in record["error"]["message"]
            assert record["attempts"] == 0
        offset += len(line) + 1
    assert "warning: " in done.err
    assert sim.ledger(0)["requests"] == 2


def test_columns_are_text_and_never_templates(desk: Any) -> None:
    desk.prompts([{"name": "Ada", "n": 3, "why": "{{ not a template }}"}])
    desk.write(
        input={"path": "prompts.jsonl", "messages": [{"role": "user", "content": "{{ name }} x{{ n }}: {{ why }}"}]}
    )
    done = desk.run("run", "job.yaml")
    assert done.code == 0, done.err
    assert texts(desk) == ["Ada x3: {{ not a template }}"]


def test_answers_in_input_order_when_asked(desk: Any) -> None:
    desk.prompts(300)
    desk.write(order="input")
    assert desk.run("run", "job.yaml").code == 0
    written = [json.loads(line)["index"] for line in desk.answers.read_bytes().split(b"\n")[:-1]]
    assert written == list(range(300))


@pytest.mark.slow
def test_ten_thousand_lines(desk: Any, sim: Any) -> None:
    desk.prompts(10_000)
    desk.write(provider={"max_concurrency": 64})
    done = desk.run("run", "job.yaml", "--json")
    assert done.code == 0, done.err
    assert (done.summary["total"], done.summary["succeeded"]) == (10_000, 10_000)
    assert texts(desk) == [f"question {at}" for at in range(10_000)]
    assert sim.ledger(0)["paid_calls"] == 10_000


def test_paths_start_at_the_job_file(desk: Any) -> None:
    folder = desk.root / "jobs"
    folder.mkdir()
    desk.prompts(1, "jobs/prompts.jsonl")
    desk.write().rename(folder / "job.yaml")
    done = desk.run("run", "jobs/job.yaml")
    assert done.code == 0, done.err
    assert (folder / "answers.jsonl").read_bytes().count(b"\n") == 1
