"""Values of the wrong type or out of range: what is said, word for word."""

from __future__ import annotations

from collections.abc import Callable

import pytest

WRONG = [
    pytest.param(
        """\
version: 2
input: {path: in.jsonl}
providers:
  fast: {use: echo}
output: out.jsonl
""",
        """\
error[E0205]: version: should be 1
 --> job.yaml:1:10
  |
1 | version: 2
  |          ^
""",
        id="other_version",
    ),
    pytest.param(
        """\
version: 1
name: "a b"
input: [x]
params: 5
providers: echo
routes: {to: fast}
output: 7
""",
        """\
error[E0205]: name: should match pattern '^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$'
 --> job.yaml:2:7
  |
2 | name: "a b"
  |       ^^^^^
error[E0205]: input: should be a mapping of keys to values
 --> job.yaml:3:8
  |
3 | input: [x]
  |        ^^^
error[E0205]: params: should be a mapping of keys to values
 --> job.yaml:4:9
  |
4 | params: 5
  |         ^
error[E0205]: providers: should be a mapping of keys to values
 --> job.yaml:5:12
  |
5 | providers: echo
  |            ^^^^
error[E0205]: routes: should be a list
 --> job.yaml:6:9
  |
6 | routes: {to: fast}
  |         ^^^^^^^^^^
error[E0205]: output: should be a text
 --> job.yaml:7:9
  |
7 | output: 7
  |         ^
""",
        id="wrong_types",
    ),
    pytest.param(
        """\
version: 1
input: {path: in.jsonl}
providers:
  fast: {use: echo, max_concurrency: many, limits: 5}
  slow: {use: chat, model: 5, mode: medium, base_url: ftp}
output: out.jsonl
routes: [{to: fast}]
retry: {attempts: 1.5}
""",
        """\
error[E0205]: providers.fast.max_concurrency: should be a whole number
 --> job.yaml:4:38
  |
4 |   fast: {use: echo, max_concurrency: many, limits: 5}
  |                                      ^^^^
error[E0205]: providers.fast.limits: should be a mapping of keys to values
 --> job.yaml:4:52
  |
4 |   fast: {use: echo, max_concurrency: many, limits: 5}
  |                                                    ^
error[E0205]: providers.slow.model: should be a text
 --> job.yaml:5:28
  |
5 |   slow: {use: chat, model: 5, mode: medium, base_url: ***}
  |                            ^
error[E0205]: providers.slow.base_url: not a web address
 --> job.yaml:5:55
  |
5 |   slow: {use: chat, model: 5, mode: medium, base_url: ***}
  |                                                       ^^^
error[E0205]: providers.slow.mode: should be 'fast' or 'slow'
 --> job.yaml:5:37
  |
5 |   slow: {use: chat, model: 5, mode: medium, base_url: ***}
  |                                     ^^^^^^
error[E0205]: retry.attempts: should be a whole number
 --> job.yaml:8:19
  |
8 | retry: {attempts: 1.5}
  |                   ^^^
""",
        id="wrong_types_in_components",
    ),
    pytest.param(
        """\
version: 1
input: {path: in.jsonl}
providers:
  fast: {use: echo, max_concurrency: 0}
output: out.jsonl
retry: {attempts: 0}
stop_when: {failure_rate: 2}
""",
        """\
error[E0205]: stop_when.failure_rate: should be less than or equal to 1
 --> job.yaml:7:27
  |
7 | stop_when: {failure_rate: 2}
  |                           ^
""",
        id="number_out_of_range",
    ),
    pytest.param(
        """\
version: 1
input: {path: in.jsonl}
providers:
  fast: {use: echo, limits: {rpm: .inf}}
output: out.jsonl
""",
        """\
error[E0205]: providers.fast.limits.rpm: should be a finite number
 --> job.yaml:4:35
  |
4 |   fast: {use: echo, limits: {rpm: .inf}}
  |                                   ^^^^
""",
        id="infinite_limit",
    ),
    pytest.param(
        """\
version: 1
input: {path: in.jsonl}
providers: {}
output: out.jsonl
""",
        """\
error[E0205]: providers: should have at least 1 item, not 0
 --> job.yaml:3:12
  |
3 | providers: {}
  |            ^^
""",
        id="no_providers",
    ),
    pytest.param(
        """\
version: 1
input: {path: in.jsonl}
providers: {fast: echo}
output: out.jsonl
""",
        """\
error[E0205]: providers.fast: should be a mapping of keys to values
 --> job.yaml:3:19
  |
3 | providers: {fast: echo}
  |                   ^^^^
""",
        id="provider_is_text",
    ),
    pytest.param(
        """\
version: 1
input: {path: in.jsonl}
providers:
  fast: {use: ecco}
output: out.jsonl
""",
        """\
error[E0403]: there is no provider 'ecco'; did you mean 'echo'?
 --> job.yaml:4:15
  |
4 |   fast: {use: ecco}
  |               ^^^^
""",
        id="unknown_provider_type",
    ),
    pytest.param(
        """\
version: 1
input: {path: in.jsonl}
providers:
  fast: {use: echo}
sinks:
  - {use: parquet, path: x}
""",
        """\
error[E0403]: there is no sink 'parquet'; installed: jsonl
 --> job.yaml:6:11
  |
6 |   - {use: parquet, path: x}
  |           ^^^^^^^
""",
        id="unknown_sink",
    ),
    pytest.param(
        """\
version: 1
input: {path: in.jsonl}
providers:
  fast: {use: echo}
output: out.jsonl
retry: {use: linear}
""",
        """\
error[E0403]: there is no policy 'linear'; installed: exponential
 --> job.yaml:6:14
  |
6 | retry: {use: linear}
  |              ^^^^^^
""",
        id="unknown_policy",
    ),
    pytest.param(
        """\
version: 1
input: {use: parquet, path: x}
providers:
  fast: {use: echo}
output: out.jsonl
""",
        """\
error[E0403]: there is no source 'parquet'; installed: csv, jsonl
 --> job.yaml:2:14
  |
2 | input: {use: parquet, path: x}
  |              ^^^^^^^
""",
        id="unknown_source",
    ),
    pytest.param(
        """\
version: 1
input: {path: in.jsonl}
providers:
  fast: {model: x}
  slow: {use: 5}
sinks: [{path: x}]
routes: [{to: fast}]
""",
        """\
error[E0204]: the provider has no `use: name`
 --> job.yaml:4:9
  |
4 |   fast: {model: x}
  |         ^^^^^^^^^^
  = help: installed: chat, echo
error[E0204]: the provider has no `use: name`
 --> job.yaml:5:9
  |
5 |   slow: {use: 5}
  |         ^^^^^^^^
  = help: installed: chat, echo
error[E0204]: the sink has no `use: name`
 --> job.yaml:6:9
  |
6 | sinks: [{path: x}]
  |         ^^^^^^^^^
  = help: installed: jsonl
""",
        id="no_use",
    ),
    pytest.param(
        """\
version: 1
input: {path: in.jsonl}
providers:
  fast: {use: echo, timeout: 5 minutes, delay: -1}
output: out.jsonl
""",
        """\
error[E0205]: providers.fast.timeout: a duration is a number of seconds or a text such as 500ms, 30s or 6h, up to 10000d
 --> job.yaml:4:30
  |
4 |   fast: {use: echo, timeout: 5 minutes, delay: -1}
  |                              ^^^^^^^^^
error[E0205]: providers.fast.delay: a duration is a number of seconds or a text such as 500ms, 30s or 6h, up to 10000d
 --> job.yaml:4:48
  |
4 |   fast: {use: echo, timeout: 5 minutes, delay: -1}
  |                                                ^^
""",
        id="bad_duration",
    ),
    pytest.param(
        """\
version: 1
input: {path: in.jsonl}
providers:
  fast: {use: echo}
sinks:
  - {use: jsonl, path: 日本, "モデル": x, flsh: 速い}
""",
        """\
error[E0203]: unknown key 'モデル'
 --> job.yaml:6:28
  |
6 |   - {use: jsonl, path: 日本, "モデル": x, flsh: 速い}
  |                              ^^^^^^^^
  = help: known here: flush, path, schema, use
error[E0203]: unknown key 'flsh'
 --> job.yaml:6:38
  |
6 |   - {use: jsonl, path: 日本, "モデル": x, flsh: 速い}
  |                                           ^^^^
  = help: did you mean 'flush'?
""",
        id="wide_characters",
    ),
    pytest.param(
        """\
version: 1
input: {path: in.jsonl}
providers:
  fast: {use: echo}
sinks:
  - {use: jsonl, path: x, "a\\u202eb": "\\e[31mred"}
""",
        """\
error[E0203]: unknown key 'a\\u202eb'
 --> job.yaml:6:27
  |
6 |   - {use: jsonl, path: x, "a\\u202eb": "\\e[31mred"}
  |                           ^^^^^^^^^^
  = help: known here: flush, path, schema, use
""",
        id="control_characters",
    ),
]


@pytest.mark.parametrize(("job", "message"), WRONG)
def test_is_told(said: Callable[[str], str], job: str, message: str) -> None:
    assert said(job) + "\n" == message
