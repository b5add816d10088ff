"""Files that are not plain YAML mappings: what is said, word for word."""

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
stop_when:
\tfailure_rate: 0.1
""",
        """\
error[E0202]: not valid YAML: found character '\\t' that cannot start any token
 --> job.yaml:7:1
  |
7 | \tfailure_rate: 0.1
  | ^
""",
        id="tab",
    ),
    pytest.param(
        """\
version: 1
input: {path: in.jsonl}
providers:
  fast: {use: echo}
 slow: {use: echo}
output: out.jsonl
""",
        """\
error[E0202]: not valid YAML: expected <block end>, but found '<block mapping start>'
 --> job.yaml:5:2
  |
5 |  slow: {use: echo}
  |  ^
""",
        id="bad_indentation",
    ),
    pytest.param(
        """\
- a
- b
""",
        """\
error[E0202]: the job file is not a mapping of keys to values
 --> job.yaml:1:1
  |
1 | - a
  | ^^^
  = help: `promptmill init` writes a job file to start from
""",
        id="a_list",
    ),
    pytest.param(
        """\
hello
""",
        """\
error[E0202]: the job file is not a mapping of keys to values
 --> job.yaml:1:1
  |
1 | hello
  | ^^^^^
  = help: `promptmill init` writes a job file to start from
""",
        id="a_text",
    ),
    pytest.param(
        """\
# nothing
""",
        """\
error[E0202]: the job file is empty
 --> job.yaml:1:1
  |
1 | # nothing
  | ^
  = help: `promptmill init` writes a job file to start from
""",
        id="nothing",
    ),
    pytest.param(
        """\
version: 1
input: {path: in.jsonl}
providers: !!python/object/apply:os.system [ls]
output: out.jsonl
""",
        """\
error[E0202]: a tag is not allowed here; write plain values
 --> job.yaml:3:12
  |
3 | providers: !!python/object/apply:os.system [ls]
  |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
""",
        id="python_tag",
    ),
    pytest.param(
        """\
a: &a [x, x]
b: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a]
""",  # noqa: E501
        """\
error[E0202]: more than 50 aliases
 --> job.yaml:2:208
  |
2 | ...*a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a]
  |                                                                                    ^^
""",
        id="alias_bomb",
    ),
    pytest.param(
        """\
a: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]
""",
        """\
error[E0202]: nested too deeply
 --> job.yaml:1:54
  |
1 | a: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]
  |                                                      ^
""",
        id="deep_nesting",
    ),
]


@pytest.mark.parametrize(("job", "message"), WRONG)
def test_is_told(said: Callable[[str], str], job: str, message: str) -> None:
    assert said(job) + "\n" == message
