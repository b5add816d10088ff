"""Keys that nobody knows: what is said, word for word."""

from __future__ import annotations

from collections.abc import Callable

import pytest

WRONG = [
    pytest.param(
        """\
version: 1
input: {path: in.jsonl}
providers:
  fast: {use: echo}
output: out.jsonl
verzion: 2
""",
        """\
error[E0203]: unknown key 'verzion'
 --> job.yaml:6:1
  |
6 | verzion: 2
  | ^^^^^^^
  = help: did you mean 'version'?
""",
        id="unknown_key_at_the_top",
    ),
    pytest.param(
        """\
version: 1
input: {path: in.jsonl}
providers:
  fast: {use: echo}
sinks:
  - {use: jsonl, path: x, zzz: 2}
""",
        """\
error[E0203]: unknown key 'zzz'
 --> job.yaml:6:27
  |
6 |   - {use: jsonl, path: x, zzz: 2}
  |                           ^^^
  = help: known here: flush, path, schema, use
""",
        id="unknown_key_without_a_near_one",
    ),
    pytest.param(
        """\
version: 1
input: {path: in.jsonl}
providers:
  fast: {use: echo, max_concurency: 4}
output: out.jsonl
""",
        """\
error[E0203]: unknown key 'max_concurency'
 --> job.yaml:4:21
  |
4 |   fast: {use: echo, max_concurency: 4}
  |                     ^^^^^^^^^^^^^^
  = help: did you mean 'max_concurrency'?
""",
        id="unknown_key_of_a_component",
    ),
    pytest.param(
        """\
version: 1
input: {path: in.jsonl}
providers:
  fast:
    use: echo
    limits:
      rmp: 4
output: out.jsonl
""",
        """\
error[E0203]: unknown key 'rmp'
 --> job.yaml:7:7
  |
7 |       rmp: 4
  |       ^^^
  = help: did you mean 'rps'?
""",
        id="unknown_key_in_limits",
    ),
    pytest.param(
        """\
version: 1
input:
  path: in.jsonl
  promt: "{{ q }}"
providers:
  fast: {use: echo}
output: out.jsonl
""",
        """\
error[E0203]: unknown key 'promt'
 --> job.yaml:4:3
  |
4 |   promt: "{{ q }}"
  |   ^^^^^
  = help: did you mean 'prompt'?
""",
        id="unknown_key_of_the_input",
    ),
    pytest.param(
        """\
version: 1
input:
  path: in.jsonl
  messages:
    - {role: user, contents: x}
providers:
  fast: {use: echo}
output: out.jsonl
""",
        """\
error[E0204]: the key 'content' is missing
 --> job.yaml:5:7
  |
5 |     - {role: user, contents: x}
  |       ^^^^^^^^^^^^^^^^^^^^^^^^^
  = help: add `content: ...`
error[E0203]: unknown key 'contents'
 --> job.yaml:5:20
  |
5 |     - {role: user, contents: x}
  |                    ^^^^^^^^
  = help: did you mean 'content'?
""",
        id="unknown_key_of_a_message",
    ),
    pytest.param(
        """\
version: 1
input: {path: in.jsonl}
providers:
  fast: {use: echo}
output: out.jsonl
routes:
  - {to: fast, fallbacks: [fast]}
""",
        """\
error[E0203]: unknown key 'fallbacks'
 --> job.yaml:7:16
  |
7 |   - {to: fast, fallbacks: [fast]}
  |                ^^^^^^^^^
  = help: did you mean 'fallback'?
""",
        id="unknown_key_of_a_route",
    ),
    pytest.param(
        """\
version: 1
input: {path: in.jsonl}
providers:
  fast: {use: echo}
output: out.jsonl
routes:
  - {when: {tag: {nmae: x}}, to: fast}
  - {to: fast}
""",
        """\
error[E0204]: the key 'name' is missing
 --> job.yaml:7:18
  |
7 |   - {when: {tag: {nmae: x}}, to: fast}
  |                  ^^^^^^^^^
  = help: add `name: ...`
error[E0203]: unknown key 'nmae'
 --> job.yaml:7:19
  |
7 |   - {when: {tag: {nmae: x}}, to: fast}
  |                   ^^^^
  = help: did you mean 'name'?
""",
        id="unknown_key_of_a_condition",
    ),
    pytest.param(
        """\
version: 1
input: {path: in.jsonl}
providers:
  fast: {use: echo}
sinks:
  - {use: jsonl, path: x, flsh: true}
""",
        """\
error[E0203]: unknown key 'flsh'
 --> job.yaml:6:27
  |
6 |   - {use: jsonl, path: x, flsh: true}
  |                           ^^^^
  = help: did you mean 'flush'?
""",
        id="unknown_key_of_a_sink",
    ),
    pytest.param(
        """\
version: 1
input: {path: in.jsonl}
providers:
  fast: {use: echo}
output: out.jsonl
retry: {use: exponential, atempts: 3}
""",
        """\
error[E0203]: unknown key 'atempts'
 --> job.yaml:6:27
  |
6 | retry: {use: exponential, atempts: 3}
  |                           ^^^^^^^
  = help: did you mean 'attempts'?
""",
        id="unknown_key_of_retry",
    ),
    pytest.param(
        """\
version: 1
input: {path: in.jsonl}
providers:
  fast: {use: echo}
output: out.jsonl
stop_when: {failure_rat: 0.5}
""",
        """\
error[E0204]: the key 'failure_rate' is missing
 --> job.yaml:6:12
  |
6 | stop_when: {failure_rat: 0.5}
  |            ^^^^^^^^^^^^^^^^^^
  = help: add `failure_rate: ...`
error[E0203]: unknown key 'failure_rat'
 --> job.yaml:6:13
  |
6 | stop_when: {failure_rat: 0.5}
  |             ^^^^^^^^^^^
  = help: did you mean 'failure_rate'?
""",
        id="unknown_key_of_stop_when",
    ),
    pytest.param(
        """\
version: 1
input: {path: in.jsonl}
providers:
  fast: {use: echo}
sinks:
  - {use: jsonl, path: x, schema_: y}
""",
        """\
error[E0203]: unknown key 'schema_'
 --> job.yaml:6:27
  |
6 |   - {use: jsonl, path: x, schema_: y}
  |                           ^^^^^^^
  = help: did you mean 'schema'?
""",
        id="the_name_of_a_field_is_not_its_key",
    ),
]


@pytest.mark.parametrize(("job", "message"), WRONG)
def test_is_told(said: Callable[[str], str], job: str, message: str) -> None:
    assert said(job) + "\n" == message
