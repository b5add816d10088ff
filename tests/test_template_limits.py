"""What a template cannot do: reach the interpreter, or take the memory or the time of the run (fault D8)."""

from __future__ import annotations

import tracemalloc

import pytest

from promptmill._template import InputTemplate
from promptmill.errors import JobError
from promptmill.models import BadRow, Row

DATA = {"s": "x" * 100_000, "n": 10**9, "big": 10**1000, "w": 10**6, "d": {"a": 1}, "many": list(range(5000))}


@pytest.mark.parametrize(
    "template",
    [
        "{{ s.__class__ }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ s['__class__'] }}",
        "{{ range.__globals__ }}",
        "{{ d.get.__self__ }}",
        "{{ loop.__init__ }}",
        "{{ ([s]|map(attribute='__class__')|list)[0] }}",
        "{{ s.center }}",
        "{{ (['a']|map(attribute='center')|list)[0] }}",
        "{{ s['format'] }}",
        "{{ d.update }}",
        "{% for x in [s.zfill] %}{{ x }}{% endfor %}",
        "{{ many|map('center', 99)|list }}",
    ],
)
def test_refused_on_every_row(template: str) -> None:
    row = InputTemplate(prompt=template).request_of(Row(DATA), 0)
    assert isinstance(row, BadRow)
    assert row.code == "template"


@pytest.mark.parametrize(
    "template",
    [
        "{{ 'a'.center(1000000000) }}",
        "{{ 'a'.ljust(n) }}",
        "{{ 'a'.zfill(n) }}",
        "{{ '{:>999999999}'.format(1) }}",
        "{{ '{x}'.format_map(d) }}",
        "{{ 'a'.replace('a', s) }}",
        "{{ s.join(s) }}",
        "{{ '\t'.expandtabs(n) }}",
        "{{ s.translate(d) }}",
        "{{ s.encode() }}",
        "{{ '%9999999d'|format(1) }}",
        "{{ 'a'|center(n) }}",
        "{{ s|wordwrap(1, true, s) }}",
        "{{ d|xmlattr }}",
        "{{ many|batch(n, 'x')|list }}",
        "{{ s|attr('center') }}",
        "{{ many|random }}",
        "{{ lipsum(n=1000) }}",
        "{{ dict(a=1) }}",
        "{{ cycler(1) }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% include 'x' %}",
        "{% import 'x' as y %}",
        "{% extends 'x' %}",
        "{% block x %}{% endblock %}",
        "{% set x %}{{ s }}{% endset %}",
        "{% filter upper %}x{% endfilter %}",
        "{% for x in many recursive %}{{ loop(many) }}{% endfor %}",
        "{% set range = s %}",
        "{% for range in many %}{% endfor %}",
        "{% set a = [s, s] %}{% set b = [a, a] %}",
        "{% with a = [s, s] %}{% endwith %}",
        "{{ (" * 2000 + "1" + ") }}" * 2000,
    ],
)
def test_does_not_compile(template: str) -> None:
    with pytest.raises(JobError) as caught:
        InputTemplate(prompt=template)
    assert caught.value.code == "E0210"


DOUBLING = "{% set n = namespace(t='ab') %}{% for i in range(60) %}{% set n.t = n.t OP n.t %}{% endfor %}"


@pytest.mark.parametrize(
    "template",
    [
        "{{ 'a' * 100000000 }}",
        "{{ n * 'a' }}",
        "{{ (s * n)|length }}",
        "{{ many * n }}",
        "{{ 2 ** n }}",
        "{{ n ** n ** n }}",
        "{{ (big * big * big)|string }}",
        "{{ '%999999999d' % 1 }}",
        "{{ s % 1 }}",
        "{{ range(200000)|list }}",
        "{{ range(100000)|join(s) }}",
        "{{ many|join(s) }}",
        "{{ s|replace('x', s) }}",
        "{{ s|replace('', s) }}",
        "{{ s|indent(n) }}",
        "{{ ('\n' * 50000)|indent(s) }}",
        "{{ many|tojson(indent=n) }}",
        "{{ 1.5|round(n, 'ceil') }}",
        "{{ 1.5|round(0 - n) }}",
        "{{ many|sum(start=many) }}",
        DOUBLING.replace("OP", "~") + "{{ n.t }}",
        DOUBLING.replace("OP", "+"),
        "{% set a = 'ab' %}" + "{% set a = a ~ a %}" * 60,
        "{% set a = 'ab' %}" + "{% set a = a + a %}" * 60,
        "{% for a in many %}{{ s }}{% endfor %}",
        "{% for a in many %}" + "constant " * 200 + "{% endfor %}",
        "{% for a in many %}{% for b in many %}{% endfor %}{% endfor %}",
        "{% for a in range(100000) %}{% for b in range(100000) %}{% if false %}{% endif %}{% endfor %}{% endfor %}",
        "{% for a in many %}{% set x = s|upper %}{% endfor %}",
        "{% for a in many %}{% set x = s.upper() %}{% endfor %}",
        "{% for a in many %}{% set x = many|sort %}{% endfor %}",
        "{% for a in many %}{% set x = s|urlencode %}{% endfor %}",
    ],
)
def test_stopped_in_time(template: str) -> None:
    row: object = None
    prepared = InputTemplate(prompt=template)
    tracemalloc.start()
    try:
        row = prepared.request_of(Row(DATA), 0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(row, BadRow)
    assert row.code == "template"
    assert peak < 64 * 1024 * 1024
    assert len(row.message) < 1000


def test_work_of_all_templates_of_a_row_is_counted_together() -> None:
    loop = "{% for a in many %}{% set x = s[:9000]|upper %}{% endfor %}y"
    alone = InputTemplate(prompt="x", tags=[loop.replace("9000", "900")])
    together = InputTemplate(prompt="x", tags=[loop] * 3)
    assert not isinstance(alone.request_of(Row(DATA), 0), BadRow)
    assert isinstance(together.request_of(Row(DATA), 0), BadRow)


def test_long_value_is_refused() -> None:
    assert isinstance(InputTemplate(prompt="{{ q }}").request_of(Row({"q": "x" * (4 * 1024 * 1024 + 1)}), 0), BadRow)
    assert not isinstance(InputTemplate(prompt="{{ q }}").request_of(Row({"q": "x" * 4_000_000}), 0), BadRow)


def test_templates_cannot_change_the_row() -> None:
    columns = {"d": {"a": [1]}}
    for template in ("{{ d.clear() }}", "{{ d['a'].append(2) }}", "{{ d.pop('a') }}", "{{ d.setdefault('b', 1) }}"):
        with pytest.raises(JobError):
            InputTemplate(prompt=template)
    assert columns == {"d": {"a": [1]}}
