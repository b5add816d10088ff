"""Routes and conditions that do not hold together: what is said, word for word."""

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
routes:
  - {when: {lnger: 5}, to: fast}
  - {to: fast}
""",
        """\
error[E0403]: there is no condition 'lnger'; did you mean 'longer'?
 --> job.yaml:7:13
  |
7 |   - {when: {lnger: 5}, to: fast}
  |             ^^^^^
""",
        id="unknown_condition",
    ),
    pytest.param(
        """\
version: 1
input: {path: in.jsonl}
providers:
  fast: {use: echo}
output: out.jsonl
routes:
  - {when: {longer: 5}, to: fast}
""",
        """\
error[E0230]: the last route does not match everything, so some requests would have nowhere to go
 --> job.yaml:7:5
  |
7 |   - {when: {longer: 5}, to: fast}
  |     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  = help: add a last route such as `- {to: fast}`
""",
        id="last_route",
    ),
    pytest.param(
        """\
version: 1
input: {path: in.jsonl}
providers:
  fast: {use: echo}
output: out.jsonl
routes:
  - {when: {longer: 5}, to: fsat}
  - {to: fast, fallback: [local, fast]}
""",
        """\
error[E0231]: there is no provider named 'fsat' in this job
 --> job.yaml:7:29
  |
7 |   - {when: {longer: 5}, to: fsat}
  |                             ^^^^
  = help: defined: fast
error[E0231]: there is no provider named 'local' in this job
 --> job.yaml:8:27
  |
8 |   - {to: fast, fallback: [local, fast]}
  |                           ^^^^^
  = help: defined: fast
""",
        id="route_to_unknown",
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
error[E0230]: there are 2 providers and no routes
 --> job.yaml:3:1
  |
3 | providers:
  | ^^^^^^^^^
  = help: add `routes: [{to: fast}]`
""",
        id="no_routes",
    ),
    pytest.param(
        """\
version: 1
input: {path: in.jsonl}
providers:
  fast: {use: echo}
output: out.jsonl
routes: []
""",
        """\
error[E0205]: routes: should have at least 1 item, not 0
 --> job.yaml:6:9
  |
6 | routes: []
  |         ^^
""",
        id="no_routes_empty",
    ),
    pytest.param(
        """\
version: 1
input: {path: in.jsonl}
providers:
  fast: {use: echo}
output: out.jsonl
routes:
  - {when: {}, to: fast}
  - when:
    to: fast
  - {to: fast}
""",
        """\
error[E0205]: a condition is a mapping such as `{prompt_chars: {lt: 100}}`
 --> job.yaml:7:12
  |
7 |   - {when: {}, to: fast}
  |            ^^
error[E0205]: a condition is a mapping such as `{prompt_chars: {lt: 100}}`
 --> job.yaml:8:5
  |
8 |   - when:
  |     ^^^^
""",
        id="when_empty",
    ),
    pytest.param(
        """\
version: 1
input: {path: in.jsonl}
providers:
  fast: {use: echo}
output: out.jsonl
routes:
  - when: {any: {longer: 5}}
    to: fast
  - when: {any: []}
    to: fast
  - when: {not: 5}
    to: fast
  - when: {any: [5]}
    to: fast
  - {to: fast}
""",
        """\
error[E0205]: `any` takes a list of conditions
 --> job.yaml:7:17
  |
7 |   - when: {any: {longer: 5}}
  |                 ^^^^^^^^^^^
error[E0205]: `any` takes a list of conditions
 --> job.yaml:9:17
  |
9 |   - when: {any: []}
  |                 ^^
error[E0205]: a condition is a mapping such as `{prompt_chars: {lt: 100}}`
  --> job.yaml:11:17
   |
11 |   - when: {not: 5}
   |                 ^
error[E0205]: a condition is a mapping such as `{prompt_chars: {lt: 100}}`
  --> job.yaml:13:18
   |
13 |   - when: {any: [5]}
   |                  ^
""",
        id="any_and_not",
    ),
    pytest.param(
        """\
version: 1
input: {path: in.jsonl}
providers:
  fast: {use: echo}
output: out.jsonl
routes:
  - {when: {longer: long}, to: fast}
  - {when: {longer: {than: -1}}, to: fast}
  - {when: {tag: x}, to: fast}
  - {to: fast}
""",
        """\
error[E0205]: routes.0.when.longer: should be a whole number
 --> job.yaml:7:21
  |
7 |   - {when: {longer: long}, to: fast}
  |                     ^^^^
error[E0205]: routes.1.when.longer.than: should be greater than or equal to 0
 --> job.yaml:8:28
  |
8 |   - {when: {longer: {than: -1}}, to: fast}
  |                            ^^
error[E0205]: routes.2.when.tag: should be a mapping of keys to values
 --> job.yaml:9:18
  |
9 |   - {when: {tag: x}, to: fast}
  |                  ^
""",
        id="condition_values",
    ),
    pytest.param(
        """\
version: 1
input: {path: in.jsonl}
providers:
  fast: {use: echo}
output: out.jsonl
routes:
  - {to: fast, budget: 5, deadline: 0}
""",
        """\
error[E0205]: routes.0.budget: should be a mapping of keys to values
 --> job.yaml:7:24
  |
7 |   - {to: fast, budget: 5, deadline: 0}
  |                        ^
error[E0205]: routes.0.deadline: should be greater than 0
 --> job.yaml:7:37
  |
7 |   - {to: fast, budget: 5, deadline: 0}
  |                                     ^
""",
        id="money_and_time_of_a_route",
    ),
]


@pytest.mark.parametrize(("job", "message"), WRONG)
def test_is_told(said: Callable[[str], str], job: str, message: str) -> None:
    assert said(job) + "\n" == message
