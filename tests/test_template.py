"""From rows to requests: defaults, ids, priorities, tags, batch lines, and errors that name the place."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptmill._template import InputTemplate
from promptmill.errors import JobError
from promptmill.models import BadRow, Message, Origin, Request, Row

PLACE = Origin("rows.jsonl", 7, 99)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def make(columns: dict[str, Any], index: int = 6, **template: Any) -> Request | BadRow:
    return InputTemplate(**template).request_of(Row(columns, PLACE), index)


def good(columns: dict[str, Any], **template: Any) -> Request:
    request = make(columns, **template)
    assert isinstance(request, Request), request
    return request


def bad(columns: dict[str, Any], **template: Any) -> BadRow:
    row = make(columns, **template)
    assert isinstance(row, BadRow), row
    assert row.origin == PLACE
    return row


def text(template: str, **columns: Any) -> str:
    return good(columns, prompt=template).messages[0].text


def test_prompt_column_is_the_default() -> None:
    assert good({"prompt": "Hi {{ there }}"}).messages == (Message("user", "Hi {{ there }}"),)
    assert good({"prompt": 7}).messages == (Message("user", "7"),)


def test_messages_column_is_the_other_default() -> None:
    rows = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": [{"type": "text", "text": "x"}], "name": "n"},
    ]
    messages = good({"messages": rows}).messages
    assert [one.as_dict() for one in messages] == rows
    assert good({"messages": rows, "prompt": None}).messages == messages


@pytest.mark.parametrize(
    ("columns", "code"),
    [
        ({"question": "x"}, "missing_column"),
        ({"prompt": None}, "template_null"),
        ({"prompt": ["x"]}, "template"),
        ({"messages": "x"}, "bad_messages"),
        ({"messages": []}, "bad_messages"),
        ({"messages": ["x"]}, "bad_messages"),
        ({"messages": [{"content": "x"}]}, "bad_messages"),
        ({"messages": [{"role": "user", "content": 7}]}, "bad_messages"),
    ],
)
def test_no_default_prompt(columns: dict[str, Any], code: str) -> None:
    assert bad(columns).code == code


def test_messages_templates() -> None:
    request = good({"q": "why"}, messages=[("system", "Be brief."), ("user", "{{ q }}?")])
    assert request.messages == (Message("system", "Be brief."), Message("user", "why?"))


def test_params_are_those_of_the_job() -> None:
    assert good({"prompt": "x", "temperature": 2, "url": "http://evil"}, params={"seed": 1}).params == {"seed": 1}


OWN: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"prompt": "x", "params": {"max_tokens": 5}}, {"seed": 1, "max_tokens": 5}),
    ({"prompt": "x", "params": {"seed": 7}}, {"seed": 7}),
    ({"prompt": "x", "params": None}, {"seed": 1}),
    ({"prompt": "x", "params": '{"top_p": 0.5}'}, {"seed": 1, "top_p": 0.5}),
    ({"prompt": "x", "params": "", "model": ""}, {"seed": 1}),
    ({"prompt": "x", "model": "small"}, {"seed": 1, "model": "small"}),
    (
        {"prompt": "x", "model": "small", "temperature": "0.5", "max_tokens": "", "stop": "7", "note": "n"},
        {"seed": 1, "model": "small", "temperature": 0.5, "stop": "7"},
    ),
    (
        {"messages": [{"role": "user", "content": "x"}], "temperature": 0, "n": 2, "user": "u", "note": "n"},
        {"seed": 1, "temperature": 0, "n": 2, "user": "u"},
    ),
    (
        {"prompt": "x", "model": "m", "temperature": 1, "params": {"temperature": 1}},
        {"seed": 1, "model": "m", "temperature": 1},
    ),
    ({"messages": [{"role": "user", "content": "x"}], "stream": False}, {"seed": 1}),
    ({"prompt": "x", "user": "u", "n": 3, "metadata": {}}, {"seed": 1}),
]


@pytest.mark.parametrize(("columns", "params"), OWN)
def test_a_row_may_say_how_to_ask(columns: dict[str, Any], params: dict[str, Any]) -> None:
    request = good(columns, params={"seed": 1})
    assert request.params == params
    assert request.messages[0].text == "x"
    # With a template the columns are data.
    assert good(columns, params={"seed": 1}, prompt="x").params == {"seed": 1}


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"params": [1]}, "not a mapping"),
        ({"params": "{"}, "'params' is not a value"),
        ({"model": 7}, "the model is not text"),
        ({"model": "m", "temperature": "hot"}, "'temperature' is not a value"),
        ({"model": "m", "stream": True}, "taken whole"),
        ({"params": {"stream": True}}, "taken whole"),
        ({"params": {"messages": []}}, "holds the messages"),
        ({"model": "m", "params": {"model": "n"}}, "another `model`"),
    ],
)
def test_a_row_that_asks_for_what_cannot_be_is_refused(columns: dict[str, Any], says: str) -> None:
    row = bad({"prompt": "x", **columns})
    assert row.code == "bad_params"
    assert says in row.message


@pytest.mark.parametrize(
    ("template", "unused"),
    [
        ({"prompt": "{{ a }}"}, {"b", "c d"}),
        ({"prompt": "{% if b %}{{ a | upper }}{% endif %}"}, {"c d"}),
        ({"prompt": "{{ row['c d'] }} {{ row.a }}"}, {"b"}),
        ({"prompt": "{{ row.get('a') }}"}, set()),
        ({"prompt": "{% for name in row %}{{ name }}{% endfor %}"}, set()),
        ({"prompt": "{{ row | tojson }}"}, set()),
        ({"prompt": "{% set b = a %}{{ b }}"}, {"b", "c d"}),
        ({"prompt": "{{ a }}", "keep": ["b"], "tags": ["{{ row['c d'] }}"]}, set()),
        ({"messages": [("system", "x"), ("user", "{{ b }}")], "id": "a"}, {"c d"}),
        ({"prompt": "x", "priority": "{{ a }}"}, {"b", "c d"}),
    ],
)
def test_columns_that_nothing_uses(template: dict[str, Any], unused: set[str]) -> None:
    assert InputTemplate(**template).unused({"a": "1", "b": "2", "c d": "3"}) == unused


def test_columns_that_nothing_uses_without_a_template() -> None:
    template = InputTemplate()
    assert template.unused({"id": 1, "prompt": "x", "temperature": 1, "note": ""}) == {"temperature", "note"}
    assert template.unused({"custom_id": 1, "messages": [], "temperature": 1, "id": 1}) == {"id"}
    assert template.unused({"custom_id": 1, "method": "", "url": "", "body": {}, "note": 1}) == {"note"}
    assert template.asking({"prompt": "x", "params": {}, "model": "m", "seed": 1, "n": 1}) == {
        "params",
        "model",
        "seed",
    }


@pytest.mark.parametrize(
    ("prompt", "names", "constant"),
    [
        ("Translate {text} into { lang }", {"text", "lang"}, True),
        ("Translate {{ text }} into {lang}", {"lang"}, False),
        ('Answer as {"a": 1} or {{"{}"}}', set(), False),
        ("nothing {} {1} {a-b} {{ '{x}' }}", set(), False),
        ("nothing", set(), True),
    ],
)
def test_single_braces(prompt: str, names: set[str], constant: bool) -> None:
    template = InputTemplate(prompt=prompt)
    assert (template.braced, template.is_constant) == (names, constant)


@pytest.mark.parametrize(
    ("columns", "template", "expected"),
    [
        ({}, {}, "7"),
        ({"id": "a"}, {}, "a"),
        ({"id": 12}, {}, "12"),
        ({"id": "a", "custom_id": "b"}, {}, "b"),
        ({"id": "a", "row_id": "c"}, {"id": "row_id"}, "c"),
        ({"id": "../../etc/passwd"}, {}, "../../etc/passwd"),
    ],
)
def test_id(columns: dict[str, Any], template: dict[str, Any], expected: str) -> None:
    request = good({"prompt": "x", **columns}, **template)
    assert (request.id, request.index) == (expected, 6)


@pytest.mark.parametrize(
    "value", [None, True, 1.5, "", "  ", "a\nb", "a\x00", "a\x85b", "a\u2028b", "x" * 513, [1], {}]
)
def test_bad_id(value: object) -> None:
    row = bad({"prompt": "x", "id": value})
    assert row.code == "bad_id"
    assert "'id'" in row.message
    assert len(row.message) < 200


def test_missing_id_column() -> None:
    row = bad({"prompt": "x", "id": 1}, id="row_id")
    assert (row.code, "'row_id'" in row.message) == ("missing_column", True)


@pytest.mark.parametrize("value", ["urgent", "normal", "bulk", " bulk\n"])
def test_priority(value: str) -> None:
    assert good({"prompt": "x", "p": value}, priority="{{ p }}").priority == value.strip()
    assert good({"prompt": "x"}, priority="urgent").priority == "urgent"
    assert good({"prompt": "x"}).priority == "normal"


@pytest.mark.parametrize("value", ["Urgent", "", None, 1, "urgent normal"])
def test_bad_priority(value: object) -> None:
    assert bad({"prompt": "x", "p": value}, priority="{{ p }}").code == "bad_priority"


def test_priority_of_a_missing_column_is_a_template_error() -> None:
    assert bad({"prompt": "x"}, priority="{{ p }}").code == "template"


def test_tags_without_the_empty_ones() -> None:
    columns = {"prompt": "x", "a": "one", "b": None, "c": " "}
    assert good(columns, tags=["{{ a }}", "{{ b }}", "{{ c }}", "fixed"]).tags == ("one", "fixed")
    assert bad(columns, tags=["{{ d }}"]).code == "template"


def test_kept_columns() -> None:
    assert good({"prompt": "x", "label": [1], "n": None}, keep=["label", "n"]).meta == {"label": [1], "n": None}
    assert bad({"prompt": "x"}, keep=["label"]).code == "missing_column"


@pytest.mark.parametrize(
    ("url", "operation"),
    [
        ("/v1/chat/completions", "chat"),
        ("/chat/completions", "chat"),
        ("/openai/deployments/x-1.5/chat/completions", "chat"),
        ("/v1/responses", "responses"),
        ("/v1/embeddings", "embeddings"),
    ],
)
def test_batch_line_is_taken_as_it_is(url: str, operation: str) -> None:
    body = {"model": "m", "temperature": 1, "messages": [{"role": "user", "content": "{{ x }}"}], "input": "i"}
    line = {"custom_id": "c", "method": "POST", "url": url, "body": body}
    request = good(line, prompt="not used {{ missing }}", params={"temperature": 0})
    assert (request.id, request.operation) == ("c", operation)
    if operation == "chat":
        assert request.messages == (Message("user", "{{ x }}"),)
        assert request.params == {"model": "m", "temperature": 1, "input": "i"}
    else:
        assert request.messages == ()
        assert request.params == body


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"url": "https://evil.example/v1/chat/completions"}, "unsupported_url"),
        ({"url": "//evil.example/v1/chat/completions"}, "unsupported_url"),
        ({"url": "/v1/chat/completions?x=1"}, "unsupported_url"),
        ({"url": "/v1/chat/completions\n"}, "unsupported_url"),
        ({"url": "/v1/completions"}, "unsupported_url"),
        ({"url": None}, "unsupported_url"),
        ({"method": "DELETE"}, "unsupported_method"),
        ({"body": {"messages": None}}, "bad_messages"),
        ({"body": {}}, "bad_messages"),
        ({"custom_id": None}, "bad_id"),
    ],
)
def test_bad_batch_line(change: dict[str, Any], code: str) -> None:
    body = {"messages": [{"role": "user", "content": "x"}]}
    line = {"custom_id": "c", "method": "POST", "url": "/v1/chat/completions", "body": body}
    assert bad({**line, **change}).code == code


@pytest.mark.parametrize(
    ("template", "columns", "expected"),
    [
        ("{{ q }}", {"q": "{{ 7*7 }} {% if %}"}, "{{ 7*7 }} {% if %}"),
        ("{{ q }}\n", {"q": "x"}, "x"),
        ("a {{ q }} b", {"q": "<b>&"}, "a <b>& b"),
        ("{{ q }}{{ n }}", {"q": True, "n": 1.5}, "true1.5"),
        ("{{ q }}", {"q": {"a": [1, None]}}, '{"a":[1,null]}'),
        ("{{ row['my column'] }}", {"my column": "x"}, "x"),
        ("{{ row }}", {"row": "mine"}, "mine"),
        ("{{ q or 'none' }}", {"q": None}, "none"),
        ("{{ q|default('d') }}", {}, "d"),
        ("{{ 'y' if q is defined else 'n' }}", {}, "n"),
        (
            "{% for x in q %}{{ loop.index }}:{{ x }}{{ ',' if not loop.last }}{% endfor %}",
            {"q": ["a", "b"]},
            "1:a,2:b",
        ),
        ("{% for x in q if x > 1 %}{{ x }}{% else %}none{% endfor %}", {"q": [1]}, "none"),
        ("{% for k, v in q.items() %}{{ k }}={{ v }};{% endfor %}", {"q": {"a": 1, "b": 2}}, "a=1;b=2;"),
        (
            "{% set n = namespace(t=0) %}{% for x in q %}{% set n.t = n.t + x %}{% endfor %}{{ n.t }}",
            {"q": [1, 2]},
            "3",
        ),
        ("{% for x in q %}{{ loop.cycle('a', 'b') }}{% endfor %}", {"q": [1, 2, 3]}, "aba"),
        ("{% with a = q|upper %}{{ a }}{% endwith %}", {"q": "x"}, "X"),
        ("{{ q ~ 1 ~ true }}", {"q": "x"}, "x1true"),
        ("{{ q|join(', ') }}", {"q": ["a", 1]}, "a, 1"),
        ("{{ q|join('-', attribute='n') }}", {"q": [{"n": 1}, {"n": 2}]}, "1-2"),
        ("{{ q|map('upper')|join }}", {"q": ["a", "b"]}, "AB"),
        ("{{ q|replace('a', 'bb') }}{{ q|replace('a', 'c', 1) }}", {"q": "aa"}, "bbbbca"),
        ("{{ q|indent(2) }}|{{ q|indent('> ', true) }}", {"q": "a\nb\u2028c"}, "a\n  b\u2028c|> a\n> b\u2028c"),
        ("{{ q|sum }}{{ q|round(1) if q is number }}", {"q": [1, 2.5]}, "3.5"),
        ("{{ 2.26|round(1) }} {{ 2.21|round(1, 'ceil') }} {{ 2.29|round(1, 'floor') }}", {}, "2.3 2.3 2.2"),
        ("{{ q|tojson }}", {"q": {"a": "<é"}}, '{"a":"<é"}'),
        ("{{ q|tojson(indent=2) }}", {"q": {"a": [1]}}, '{\n  "a": [\n    1\n  ]\n}'),
        ("{{ q.split(',')[1].strip() }}", {"q": "a, b"}, "b"),
        ("{{ '-' * 3 }}{{ 2 ** 10 }}{{ 7 % 4 }}{{ 'a' + 'b' }}", {}, "---10243ab"),
        ("{{ q|string|length }}", {"q": 100}, "3"),
        ("plain text, no columns", {}, "plain text, no columns"),
        ("", {}, ""),
        ("{# a remark #}x", {}, "x"),
        ("{{ größe }}", {"größe": 3}, "3"),
    ],
)
def test_templates(template: str, columns: dict[str, Any], expected: str) -> None:
    assert text(template, **columns) == expected


@pytest.mark.parametrize(
    ("template", "columns", "code", "says"),
    [
        ("{{ q }}", {}, "template", "'q' is undefined"),
        ("a {{ q }}", {}, "template", "'q' is undefined"),
        ("a {{ q.x }}", {"q": {}}, "template", "no attribute 'x'"),
        ("{{ q }}", {"q": None}, "template_null", "null"),
        ("a {{ q }}", {"q": None}, "template_null", "null"),
        ("a {{ q ~ 1 }}", {"q": None}, "template_null", "null"),
        ("{{ [q]|tojson }}", {}, "template", "'q' is undefined"),
        ("a {{ q.items }}", {"q": {}}, "template", "row['name']"),
        ("{{ 1 / q }}", {"q": 0}, "template", "ZeroDivisionError"),
        ("{{ q + 1 }}", {"q": "x"}, "template", "TypeError"),
        ("{{ q|sum }}", {"q": [[1], [2]]}, "template", "numbers only"),
        ("{{ 1|round(2, 'up') }}", {}, "template", "common, ceil or floor"),
    ],
)
def test_failing_templates(template: str, columns: dict[str, Any], code: str, says: str) -> None:
    row = bad(columns, prompt=template)
    assert row.code == code
    assert says in row.message
    assert "`prompt`" in row.message


def test_broken_templates_are_all_named_with_their_line() -> None:
    with pytest.raises(JobError) as caught:
        InputTemplate(messages=[("system", "fine"), ("user", "a\n{{ b")], tags=["{% if %}"], priority="{{ x|nope }}")
    problems = [problem.message for problem in caught.value.problems]
    assert caught.value.code == "E0210"
    assert len(problems) == 3
    assert problems[0].startswith("the template of `messages[1].content` is wrong (line 2 of the template): ")
    assert "`priority`" in problems[1]
    assert "'nope'" in problems[1]
    assert "`tags[0]`" in problems[2]


@given(st.text(), JSON)
def test_values_are_never_templates(source: str, value: Any) -> None:
    columns = {"q": source, "v": value}
    assert text("<{{ q }}>", **columns) == f"<{source}>"
    assert make(columns, prompt="{{ v }}", index=0) is not None


@given(st.dictionaries(st.sampled_from(["prompt", "messages", "id", "custom_id", "method", "url", "body", "p"]), JSON))
def test_any_row_gives_a_request_or_a_bad_row(columns: dict[str, Any]) -> None:
    assert isinstance(make(columns, priority="{{ p }}", keep=["p"]), Request | BadRow)
