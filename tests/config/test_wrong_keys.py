"""Keys that are missing, given twice or at odds with one another: what is said, word for word."""

from __future__ import annotations

from collections.abc import Callable

import pytest

WRONG = [
    pytest.param(
        """\
providers:
  fast: {use: echo}
""",
        """\
error[E0204]: the key 'version' is missing
 --> job.yaml:1:1
  |
1 | providers:
  | ^^^^^^^^^^
  = help: add `version: ...`
error[E0204]: the key 'input' is missing
 --> job.yaml:1:1
  |
1 | providers:
  | ^^^^^^^^^^
  = help: add `input: ...`
""",
        id="missing_keys",
    ),
    pytest.param(
        """\
version: 1
input: {id: a}
providers:
  fast: {use: echo}
output: out.jsonl
""",
        """\
error[E0204]: the key 'path' is missing
 --> job.yaml:2:8
  |
2 | input: {id: a}
  |        ^^^^^^^
  = help: add `path: ...`
""",
        id="missing_path",
    ),
    pytest.param(
        """\
version: 1
input: {path: in.jsonl}
providers:
  fast: {use: chat}
output: out.jsonl
""",
        """\
error[E0204]: the key 'model' is missing
 --> job.yaml:4:9
  |
4 |   fast: {use: chat}
  |         ^^^^^^^^^^^
  = help: add `model: ...`
""",
        id="missing_model",
    ),
    pytest.param(
        """\
version: 1
input: {path: in.jsonl}
providers:
  fast: {use: echo}
output: out.jsonl
routes:
  - {when: {longer: 5}}
""",
        """\
error[E0204]: the key 'to' is missing
 --> job.yaml:7:5
  |
7 |   - {when: {longer: 5}}
  |     ^^^^^^^^^^^^^^^^^^^
  = help: add `to: ...`
""",
        id="missing_to",
    ),
    pytest.param(
        """\
version: 1
input: {path: in.jsonl}
providers:
  fast: {use: echo}
output: out.jsonl
output: b.jsonl
""",
        """\
error[E0202]: the key 'output' is given twice
 --> job.yaml:6:1
  |
6 | output: b.jsonl
  | ^^^^^^
""",
        id="duplicate_key",
    ),
    pytest.param(
        """\
version: 1
input:
  path: in.jsonl
  prompt: a
  messages: [{role: user, content: b}]
providers:
  fast: {use: echo}
output: out.jsonl
""",
        """\
error[E0207]: `prompt` and `messages` cannot both be given
 --> job.yaml:5:3
  |
5 |   messages: [{role: user, content: b}]
  |   ^^^^^^^^
""",
        id="prompt_and_messages",
    ),
    pytest.param(
        """\
version: 1
input: {path: in.jsonl}
providers:
  fast: {use: echo}
output: out.jsonl
sinks: [{use: jsonl, path: x}]
""",
        """\
error[E0207]: `output` and `sinks` cannot both be given
 --> job.yaml:5:1
  |
5 | output: out.jsonl
  | ^^^^^^
  = help: `output: x.jsonl` is short for `sinks: [{use: jsonl, path: x.jsonl}]`
""",
        id="output_and_sinks",
    ),
    pytest.param(
        """\
version: 1
input: {path: in.jsonl}
providers:
  fast: {use: echo}
""",
        """\
error[E0204]: nothing says where the results go
 --> job.yaml:1:1
  |
1 | version: 1
  | ^^^^^^^^^^
  = help: add `output: answers.jsonl`
""",
        id="no_output",
    ),
    pytest.param(
        """\
version: 1
input: {path: in.jsonl}
providers:
  fast: {use: echo}
sinks: []
""",
        """\
error[E0205]: sinks: should have at least 1 item, not 0
 --> job.yaml:5:8
  |
5 | sinks: []
  |        ^^
""",
        id="no_sinks",
    ),
    pytest.param(
        """\
version: 1
input: {path: in.jsonl}
providers:
  fast: {use: echo}
sinks:
  - {use: jsonl, path: x}
  - {use: jsonl, path: x}
""",
        """\
error[E0208]: two sinks are the same
 --> job.yaml:7:5
  |
7 |   - {use: jsonl, path: x}
  |     ^^^^^^^^^^^^^^^^^^^^^
  = help: remove one of them
""",
        id="the_same_sink_twice",
    ),
    pytest.param(
        """\
version: 1
input: {path: in.jsonl}
providers:
  fast: {use: echo}
output: out.jsonl
budget: {usd: .inf, eur: 1}
deadline: 0h
""",
        """\
error[E0205]: budget.usd: should be a finite number
 --> job.yaml:6:15
  |
6 | budget: {usd: .inf, eur: 1}
  |               ^^^^
error[E0203]: unknown key 'eur'
 --> job.yaml:6:21
  |
6 | budget: {usd: .inf, eur: 1}
  |                     ^^^
  = help: known here: usd
error[E0205]: deadline: should be greater than 0
 --> job.yaml:7:11
  |
7 | deadline: 0h
  |           ^^
""",
        id="money_and_time",
    ),
]


@pytest.mark.parametrize(("job", "message"), WRONG)
def test_is_told(said: Callable[[str], str], job: str, message: str) -> None:
    assert said(job) + "\n" == message
