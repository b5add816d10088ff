"""Durations, secret references and the options classes."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import TypeAdapter, ValidationError

from promptmill.clock import SystemClock, VirtualClock
from promptmill.errors import UsageError
from promptmill.interfaces import Provider
from promptmill.options import BuildContext, Duration, Limits, ProviderOptions, SecretRef, parse_duration

DURATION: TypeAdapter[float] = TypeAdapter(Duration)
DURATION_SCHEMA = Draft202012Validator(DURATION.json_schema())


class PlainOptions(ProviderOptions):
    def build(self, context: BuildContext) -> Provider:
        return Provider()


class TestDuration:
    @pytest.mark.parametrize(
        ("given", "seconds"),
        [
            (0, 0.0),
            (5, 5.0),
            (1.5, 1.5),
            ("0", 0.0),
            ("30", 30.0),
            ("2.5", 2.5),
            ("500ms", 0.5),
            ("30s", 30.0),
            ("5m", 300.0),
            ("6h", 21600.0),
            ("2d", 172800.0),
            ("1h30m", 5400.0),
            ("1h 30m", 5400.0),
            (" 1.5 h ", 5400.0),
            ("1m500ms", 60.5),
            ("10000d", 864_000_000.0),
        ],
    )
    def test_is_read(self, given: object, seconds: float) -> None:
        assert parse_duration(given) == pytest.approx(seconds)

    @pytest.mark.parametrize(
        "given",
        [
            -1,
            -0.001,
            "-5s",
            math.inf,
            math.nan,
            10**400,
            -(10**400),
            "9" * 400,
            "10001d",
            True,
            False,
            None,
            "",
            " ",
            "soon",
            "5 minutes",
            "5x",
            "s",
            "5 5",
            "1.2.3s",
            "1h30",
            "5S",
            "1e3",
            "5s\n",
            "\u0663s",
            "s5",
            "1,5s",
            [5],
            {"s": 5},
        ],
    )
    def test_anything_else_is_refused(self, given: object) -> None:
        with pytest.raises(ValueError, match="a duration is a number of seconds or a text such as"):
            parse_duration(given)
        with pytest.raises(ValidationError):
            DURATION.validate_python(given)

    @given(
        st.text(st.sampled_from("0123456789. mshd"), max_size=8)
        | st.text(max_size=6)
        | st.integers()
        | st.floats(allow_nan=False)
        | st.booleans()
        | st.none()
    )
    @example(10**400)
    @example("864000001")
    def test_the_schema_accepts_what_it_accepts(self, given: Any) -> None:
        try:
            accepted = 0 <= parse_duration(given) <= 864_000_000
        except ValueError:
            accepted = False
        if accepted != DURATION_SCHEMA.is_valid(given):
            # A pattern cannot bound the number a text stands for.
            assert isinstance(given, str)
            assert re.search(r"\d{5}", given)

    @given(
        st.lists(st.tuples(st.integers(0, 999), st.sampled_from(["ms", "s", "m", "h", "d"])), min_size=1, max_size=4)
    )
    def test_parts_add_up(self, parts: list[tuple[int, str]]) -> None:
        units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
        text = "".join(f"{amount}{unit}" for amount, unit in parts)
        assert parse_duration(text) == pytest.approx(sum(amount * units[unit] for amount, unit in parts))


class TestSecretRef:
    def test_from_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("A_KEY", " value \n")
        assert SecretRef("env:A_KEY").resolve(Path()).reveal() == "value"

    @pytest.mark.parametrize("value", [None, "", "  "])
    def test_an_unset_or_empty_variable_is_named(self, monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
        monkeypatch.delenv("A_KEY", raising=False)
        if value is not None:
            monkeypatch.setenv("A_KEY", value)
        with pytest.raises(UsageError, match="the environment variable A_KEY is not set or empty") as caught:
            SecretRef("env:A_KEY").resolve(Path())
        assert caught.value.code == "E0110"
        assert caught.value.hint == "export A_KEY=... in the shell that starts the run"

    @pytest.mark.parametrize("content", [b"value\n", b"\xef\xbb\xbfvalue\r\n", b"  value"])
    def test_from_a_file(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "keys").mkdir()
        (tmp_path / "keys" / "mine").write_bytes(content)
        assert SecretRef("file:keys/mine").resolve(tmp_path).reveal() == "value"
        assert SecretRef(f"file:{tmp_path / 'keys' / 'mine'}").resolve(Path("/nowhere")).reveal() == "value"

    @pytest.mark.parametrize("target", ["missing", ".", "a\0b", "~no-such-user-here/key", "x" * 5000])
    def test_a_file_that_cannot_be_read_is_named(self, tmp_path: Path, target: str) -> None:
        with pytest.raises(UsageError, match=r"the secret file .* cannot be read") as caught:
            SecretRef(f"file:{target}").resolve(tmp_path)
        assert caught.value.code == "E0111"
        assert repr(target) in caught.value.message

    def test_an_empty_file_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "key").write_text(" \n")
        with pytest.raises(UsageError, match="is empty"):
            SecretRef("file:key").resolve(tmp_path)

    @pytest.mark.parametrize("text", ["env:A", "env:_a9", "file:x", "file:C:\\keys\\a", "file: "])
    def test_reads_and_shows_the_reference(self, text: str) -> None:
        reference = SecretRef(text)
        assert str(reference) == text
        assert reference == SecretRef(text)
        assert hash(reference) == hash(SecretRef(text))
        assert reference != SecretRef("env:OTHER")
        assert repr(reference) == f"SecretRef('{text}')"

    @given(
        st.text(max_size=12) | st.builds("{}:{}".format, st.sampled_from(["env", "file", "sk"]), st.text(max_size=8))
    )
    def test_the_schema_accepts_what_it_accepts(self, text: str) -> None:
        try:
            accepted = str(SecretRef(text)) == text
        except ValueError:
            accepted = False
        pattern = TypeAdapter(SecretRef).json_schema()["pattern"]
        # In JSON Schema a dot does not match a newline; such file names are nobody's.
        assert accepted == bool(re.search(pattern, text, re.DOTALL)) or text.endswith("\n")


class TestOptions:
    def test_unknown_keys_are_errors_that_do_not_quote_values(self) -> None:
        with pytest.raises(ValidationError, match="extra_forbidden") as caught:
            PlainOptions.model_validate({"modle": "a-value-nobody-should-see"})
        assert "a-value-nobody-should-see" not in str(caught.value)

    def test_defaults(self) -> None:
        options = PlainOptions()
        assert options.timeout == 600
        assert options.limits == Limits()
        assert options.max_concurrency is None

    def test_are_frozen(self) -> None:
        with pytest.raises(ValidationError, match="frozen"):
            PlainOptions().model = "other"  # type: ignore[misc]

    @pytest.mark.parametrize("name", sorted(Limits.model_fields))
    @pytest.mark.parametrize("value", [0, -1, "fast"])
    def test_a_limit_is_a_positive_number(self, name: str, value: object) -> None:
        with pytest.raises(ValidationError):
            Limits.model_validate({name: value})
        assert getattr(Limits.model_validate({name: 2}), name) == 2

    @pytest.mark.parametrize("value", [math.inf, math.nan])
    def test_a_limit_is_finite(self, value: float) -> None:
        with pytest.raises(ValidationError):
            Limits(rpm=value)

    def test_schema_is_valid_and_speaks_of_durations(self) -> None:
        schema = PlainOptions.model_json_schema()
        Draft202012Validator.check_schema(schema)
        assert "600.0" in json.dumps(schema["properties"]["timeout"])

    def test_context_has_a_clock_and_allows_no_code(self) -> None:
        context = BuildContext(name="x")
        assert isinstance(context.clock, SystemClock)
        assert context.allow_code is False
        assert context.base_dir == Path.cwd()
        assert isinstance(BuildContext(name="x", clock=VirtualClock()).clock, VirtualClock)
