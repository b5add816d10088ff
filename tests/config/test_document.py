"""YAML as plain data: what scalars mean, where everything stands, and what is refused."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from promptmill._config.document import MAX_ALIASES, MAX_BYTES, MAX_DEPTH, Document
from promptmill._config.masking import masked
from promptmill.errors import JobError

FILE = Path("job.yaml")


def data_of(text: str) -> Any:
    return Document(FILE, text).data


def refusal(text: str) -> tuple[str, str]:
    with pytest.raises(JobError) as caught:
        Document(FILE, text)
    (problem,) = caught.value.problems
    assert problem.code == "E0202"
    assert problem.location is not None
    return str(problem.location), problem.message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("12:30", "12:30"),
        ("12:30:45", "12:30:45"),
        ("1_000", "1_000"),
        ("2001-12-14", "2001-12-14"),
        ("0o17", 15),
        ("017", 17),
        ("0x1F", 31),
        ("0b11", "0b11"),
        ("-12", -12),
        ("+12", 12),
        ("1.5", 1.5),
        ("1.", 1.0),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("-1.5E-3", -0.0015),
        ("1e3.5", "1e3.5"),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("+.Inf", math.inf),
        ("inf", "inf"),
        ("nan", "nan"),
        ("true", True),
        ("False", False),
        ("TRUE", True),
        ("tRUE", "tRUE"),
        ("null", None),
        ("~", None),
        ("Null", None),
        ("", None),
        ("none", "none"),
        ("=", "="),
        ("<<", "<<"),
        ("1.2.3", "1.2.3"),
        ("-", None),
        ("\u0661", "\u0661"),
        ('"5"', "5"),
        ("'true'", "true"),
        ('""', ""),
        ('"\\u00e9"', "é"),
        ("|\n  5\n", "5\n"),
        (">\n  a\n  b\n", "a b\n"),
        ("[1, a, {b: c}]", [1, "a", {"b": "c"}]),
    ],
)
def test_scalars_are_those_of_the_yaml_1_2_core_schema(text: str, value: object) -> None:
    if text == "-":
        assert data_of("- ") == [None]
    else:
        assert data_of(f"a: {text}\n") == {"a": value}
        assert type(data_of(f"a: {text}\n")["a"]) is type(value)


def test_nan_is_a_float() -> None:
    assert math.isnan(data_of("[.nan]")[0])


def test_keys_are_texts_as_they_are_written() -> None:
    assert data_of("1: a\ntrue: b\n~: c\n'x': d\n") == {"1": "a", "true": "b", "~": "c", "x": "d"}


def test_a_yaml_1_1_directive_changes_nothing() -> None:
    assert data_of("%YAML 1.1\n---\na: no\nb: 012\n") == {"a": "no", "b": 12}


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "---\n...\n", "\n\n"])
def test_an_empty_document_is_none(text: str) -> None:
    assert data_of(text) is None
    assert str(Document(FILE, text).locate(())).startswith("job.yaml:")


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("a: 1\na: 2\n", "job.yaml:2:1", "the key 'a' is given twice"),
        ("a:\n  b: 1\n  'b': 2\n", "job.yaml:3:3", "the key 'b' is given twice"),
        ("a:\tb\n", "job.yaml:1:3", "not valid YAML: found character '\\t' that cannot start any token"),
        ("a:\n\tb: 1\n", "job.yaml:2:1", "not valid YAML: found character '\\t' that cannot start any token"),
        (
            "a:\n   b: 1\n  c: 2\n",
            "job.yaml:3:3",
            "not valid YAML: expected <block end>, but found '<block mapping start>'",
        ),
        ("a: b: c\n", "job.yaml:1:5", "not valid YAML: mapping values are not allowed here"),
        ("a: 'b\n", "job.yaml:2:1", "not valid YAML: found unexpected end of stream"),
        ("a: [1, 2\n", "job.yaml:2:1", "not valid YAML: expected ',' or ']', but got '<stream end>'"),
        ('a: "\\q"\n', "job.yaml:1:6", "not valid YAML: found unknown escape character 'q'"),
        ("a: \x01\n", "job.yaml:1:4", "not valid YAML: special characters are not allowed"),
        ("b: 1\na: \ud800\n", "job.yaml:2:4", "not valid YAML: special characters are not allowed"),
        ("a: 1\n---\nb: 2\n", "job.yaml:2:1", "more than one document in the file"),
        ("? [a]\n: b\n", "job.yaml:1:3", "a key must be a plain text"),
        ("{[a]: b}\n", "job.yaml:1:2", "a key must be a plain text"),
        ("&a x: 1\n*a : b\n", "job.yaml:2:1", "a key must be a plain text"),
        ("a: !!python/object/apply:os.system [ls]\n", "job.yaml:1:4", "a tag is not allowed here; write plain values"),
        ("a: !!python/name:os.system\n", "job.yaml:1:4", "a tag is not allowed here; write plain values"),
        ("a: !!int 5\n", "job.yaml:1:4", "a tag is not allowed here; write plain values"),
        ("a: !!str &x 5\n", "job.yaml:1:10", "a tag is not allowed here; write plain values"),
        ("a: ! 5\n", "job.yaml:1:4", "a tag is not allowed here; write plain values"),
        ("!!binary a: 5\n", "job.yaml:1:1", "a tag is not allowed here; write plain values"),
        ("!!set {a, b}\n", "job.yaml:1:1", "a tag is not allowed here; write plain values"),
        ("a: *b\n", "job.yaml:1:4", "an alias of something that is not defined before it"),
        ("a: &b [*b]\n", "job.yaml:1:8", "an alias of something that is not defined before it"),
        ("a: " + "9" * 5000 + "\n", "job.yaml:1:4", "a number with too many digits"),
    ],
    ids=str,
)
def test_what_is_refused_is_told_with_its_place(text: str, place: str, message: str) -> None:
    assert refusal(text) == (place, message)


def test_nesting_is_bounded() -> None:
    assert data_of("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    assert refusal("[" * (MAX_DEPTH + 2) + "]" * (MAX_DEPTH + 2)) == (
        f"job.yaml:1:{MAX_DEPTH + 2}",
        "nested too deeply",
    )


@pytest.mark.parametrize("text", ["[" * 20_000, "- " * 20_000, "{a: " * 20_000, "? " * 20_000])
def test_deep_nesting_is_refused_without_unpacking_it(text: str) -> None:
    place, message = refusal(text)
    assert message in ("nested too deeply", "a key must be a plain text")
    assert place.startswith("job.yaml:1:")


def bomb(levels: int, width: int) -> str:
    lines = ["a0: &a0 lol"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, levels)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(("levels", "width"), [(9, 9), (26, 2), (10, 5), (51, 51)])
def test_an_alias_bomb_is_refused(levels: int, width: int) -> None:
    before = time.process_time()
    _, message = refusal(bomb(levels, width))
    assert message == f"more than {MAX_ALIASES} aliases"
    # It takes some milliseconds; unpacked it would take minutes.
    assert time.process_time() - before < 5


def test_a_few_aliases_are_fine_even_with_reused_anchors() -> None:
    text = "a: &x {b: [1, 2]}\nc: *x\nd: &x 5\ne: *x\n"
    assert data_of(text) == {"a": {"b": [1, 2]}, "c": {"b": [1, 2]}, "d": 5, "e": 5}
    assert data_of("a: &x 1\nb: [" + ", ".join(["*x"] * MAX_ALIASES) + "]\n")["b"] == [1] * MAX_ALIASES


class TestPlaces:
    TEXT = "# é\nproviders:\n  fast: {use: x, limits: {rpm: 5}}\nroutes:\n  - to: fast\n  - to:\n      slow\n"

    @pytest.mark.parametrize(
        ("path", "key", "place", "length"),
        [
            ((), False, "2:1", 10),
            (("providers",), True, "2:1", 9),
            (("providers",), False, "3:3", 32),
            (("providers", "fast", "limits"), True, "3:18", 6),
            (("providers", "fast", "limits", "rpm"), False, "3:32", 1),
            (("providers", "fast", "limits", "tpm"), False, "3:26", 8),
            (("providers", "slow", "limits", "tpm"), False, "3:3", 32),
            (("routes", 1, "to"), False, "7:7", 4),
            (("routes", 5), False, "5:3", 10),
        ],
    )
    def test_are_exact(self, path: tuple[str | int, ...], key: bool, place: str, length: int) -> None:
        where = Document(FILE, self.TEXT).locate(path, key=key)
        assert str(where) == f"job.yaml:{place}"
        assert where.length == length

    def test_point_to_the_alias_not_to_its_anchor(self) -> None:
        document = Document(FILE, "a: &x {b: 1}\nc: *x\n")
        assert str(document.locate(("a", "b"))) == "job.yaml:1:11"
        assert str(document.locate(("c", "b"))) == "job.yaml:2:4"

    @pytest.mark.parametrize("odd", ["\u2028", "\x85", "\u2029", "\ufeff", "\U0001f600", "\t"])
    def test_count_lines_at_newlines_only_and_columns_in_characters(self, odd: str) -> None:
        where = Document(FILE, f'a: "{odd}"\nb: "{odd}{odd}"  \nc: {{d: 1}}\n').locate(("c", "d"))
        assert str(where) == "job.yaml:3:8"
        assert where.source == "c: {d: 1}"

    @given(st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=8), max_size=6))
    def test_hold_for_any_text_before(self, texts: list[str]) -> None:
        comments = "".join(f"# {text}\n" for text in texts)
        where = Document(FILE, f"{comments}a:\n  here: 1\n").locate(("a", "here"))
        assert str(where) == f"job.yaml:{len(texts) + 2}:9"
        assert where.source == "  here: 1"


class TestRead:
    def read(self, path: Path, raw: bytes) -> Document:
        path.write_bytes(raw)
        return Document.read(path)

    def refused(self, path: Path) -> JobError:
        with pytest.raises(JobError) as caught:
            Document.read(path)
        assert caught.value.problems[0].location is not None
        return caught.value

    @pytest.mark.parametrize(
        "raw", [b"a: 1\nb: x\n", b"a: 1\r\nb: x\r\n", b"a: 1\rb: x\r", b"\xef\xbb\xbfa: 1\r\nb: x", b"\n\na: 1\nb: x"]
    )
    def test_line_ends_and_byte_order_marks_do_not_matter(self, tmp_path: Path, raw: bytes) -> None:
        document = self.read(tmp_path / "job.yaml", raw)
        assert document.data == {"a": 1, "b": "x"}
        where = document.locate(("b",))
        assert (where.column, where.source) == (4, "b: x")
        assert where.line == (4 if raw.startswith(b"\n") else 2)

    def test_a_missing_file_or_a_directory(self, tmp_path: Path) -> None:
        missing = tmp_path / "missing.yaml"
        error = self.refused(missing)
        assert (error.code, error.message) == (
            "E0201",
            f"the job file {str(missing)!r} cannot be read: No such file or directory",
        )
        assert error.hint == "`promptmill init` writes a job file to start from"
        error = self.refused(tmp_path)
        assert error.code == "E0201"
        assert error.message.startswith(f"the job file {str(tmp_path)!r} cannot be read: ")
        assert "null" in self.refused(tmp_path / "a\0b").message

    def test_the_size_is_bounded(self, tmp_path: Path) -> None:
        path = tmp_path / "job.yaml"
        assert self.read(path, b"a: 1\n#" + b"x" * (MAX_BYTES - 6)).data == {"a": 1}
        path.write_bytes(b"a: 1\n#" + b"x" * (MAX_BYTES - 5))
        assert self.refused(path).message == "the job file is larger than 1048576 bytes"

    def test_other_encodings_are_told_with_their_place(self, tmp_path: Path) -> None:
        path = tmp_path / "job.yaml"
        path.write_bytes("a: 1\nb: é".encode() + b" \xe9\n")
        error = self.refused(path)
        assert error.message == "the job file is not UTF-8"
        assert str(error.problems[0].location) == f"{path}:2:6"
        path.write_bytes("a: 1\n".encode("utf-16"))
        assert str(self.refused(path).problems[0].location) == f"{path}:1:1"


YAMLISH = st.text(
    st.sampled_from(list("ab:- \n\t#[]{},&*!|>'\"%@`?~\\.0123456789xoe<=\r\ufeff\u2028\x85é\x00\ud800")), max_size=40
)


@settings(max_examples=400, deadline=None)
@given(YAMLISH | st.text(st.characters(exclude_categories=()), max_size=30))
@example('a: "\\U99999999"')
@example("%YAML 1\n---\na")
@example("%YAML 1.99999999999999999999\n---\na")
@example("%TAG ! x\n%TAG ! x\n---\na")
@example("a: !<x> b")
@example("a: !<%zz> b")
@example("a: |9999\n b")
@example("--- |-\n")
@example("...")
@example("a: &\n")
@example("\ufeff\ufeffa: 1")
@example("? \n? \n")
@example("- - -\n -")
def test_any_text_is_data_or_a_job_error_with_a_place(text: str) -> None:
    try:
        document = Document(FILE, text)
    except JobError as error:
        place = error.problems[0].location
        assert place is not None
        assert place.line is not None
        assert place.column is not None
        assert 1 <= place.line <= text.count("\n") + 1
        assert place.source is not None
        assert place.column <= len(place.source) + 1
        return
    assert isinstance(document.data, dict | list | str | int | float | None)
    document.locate(())


class TestMasking:
    @pytest.mark.parametrize(
        ("line", "shown"),
        [
            ("api_key: sk-1", "api_key: ****"),
            ("  api_key: 'sk 1'  # x", "  api_key: *** **  * *"),
            ("{use: x, api_key: sk-1, model: y}", "{use: x, api_key: ****, model: y}"),
            ('{"api-key": "s,k", model: y}', '{"api-key": *****, model: y}'),
            ("  - {OPENAI_API_KEY: sk-1}", "  - {OPENAI_API_KEY: ****}"),
            ("headers: {Authorization: Bearer sk-1, x: y}", "headers: {Authorization: ****** ****, x: y}"),
            ("apikey: sk-1", "apikey: ****"),
            ("key: sk-1", "key: ****"),
            ("password: a,b}", "password: ****"),
            ("hf_token: x", "hf_token: *"),
            ("client_secret: x", "client_secret: *"),
            ("api_key: env:A", "api_key: env:A"),
            ("api_key: env:sk-1", "api_key: ********"),
            ("{api_key: env:A, x: 1}", "{api_key: env:A, x: 1}"),
            ("api_key: 'file:keys/a'", "api_key: 'file:keys/a'"),
            ("api_key:", "api_key:"),
            ("max_tokens: 256", "max_tokens: 256"),
            ("prompt_tokens: {lt: 5}", "prompt_tokens: {lt: 5}"),
            ("monkey: 5", "monkey: 5"),
            ("api_keys_file: x", "api_keys_file: x"),
            ("id: key", "id: key"),
            ("- to: fast", "- to: fast"),
        ],
    )
    def test_values_of_keys_that_name_secrets_are_covered(self, line: str, shown: str) -> None:
        assert masked(line) == shown

    @given(st.text(max_size=40), st.lists(st.tuples(st.integers(-5, 50), st.integers(-5, 50)), max_size=3))
    def test_columns_never_move(self, line: str, spans: list[tuple[int, int]]) -> None:
        shown = masked(line, spans)
        assert len(shown) == len(line)
        assert all(new in (old, "*") for old, new in zip(line, shown, strict=True))
        for start, end in spans:
            assert all(new == "*" or new.isspace() for new in shown[max(start, 0) : max(end, 0)])

    def test_a_hidden_value_of_several_lines_stays_hidden(self) -> None:
        document = Document(FILE, "pat: 'sk-1\n  sk-2'\nb: 1\n")
        document.hide(("pat",))
        document.hide(("nothing",))
        assert document.locate(("pat",)).source == "pat: *****"
        assert document.locate(("b",)).source == "b: 1"
