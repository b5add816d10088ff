"""The canary: no text made of a secret, of what holds one or of an error about one shows it."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import traceback
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic import ValidationError

from promptmill import jsontext
from promptmill.errors import UsageError
from promptmill.interfaces import Provider
from promptmill.options import BuildContext, ProviderOptions, SecretRef
from promptmill.secrets import Secret

CANARY = "sk-canary-7f3a9c"


class KeyedOptions(ProviderOptions):
    api_key: SecretRef
    headers: dict[str, SecretRef]

    def build(self, context: BuildContext) -> Provider:
        return Provider()


class Holder(msgspec.Struct):
    key: Secret


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        ascii,
        format,
        "{}".format,
        "{0!r} {0!s} {0!a}".format,
        "{:>40}".format,
        lambda secret: f"{secret} {secret!r} {secret:10}",
        lambda secret: "%s %r" % (secret, secret),  # noqa: UP031
        lambda secret: str([secret, {"key": secret}, (secret,)]),
        lambda secret: repr(Holder(secret)),
        lambda secret: repr(vars(type(secret))),
        lambda secret: repr(dir(secret)),
    ],
)
def test_no_text_of_it_shows_it(show: Any) -> None:
    text = show(Secret(CANARY))
    assert CANARY not in text
    assert text


@pytest.mark.parametrize(
    "leak",
    [
        pickle.dumps,
        copy.copy,
        copy.deepcopy,
        json.dumps,
        jsontext.encode,
        msgspec.msgpack.encode,
        lambda secret: jsontext.encode(Holder(secret)),
        lambda secret: json.dumps({"key": secret}),
        lambda secret: CANARY + secret,
        lambda secret: secret.encode(),
        vars,
        iter,
        len,
    ],
)
def test_what_would_take_it_along_is_refused_without_showing_it(leak: Any) -> None:
    with pytest.raises((TypeError, AttributeError)) as caught:
        leak(Secret(CANARY))
    assert CANARY not in str(caught.value)


def test_only_reveal_gives_it_away() -> None:
    secret = Secret(CANARY)
    assert secret.reveal() == CANARY
    assert bool(secret)
    assert not Secret("")
    assert secret != Secret(CANARY), "comparing secrets by value would invite comparing them by accident"


def test_logging_and_tracebacks_show_the_mask(caplog: pytest.LogCaptureFixture) -> None:
    secret = Secret(CANARY)
    try:
        raise ValueError("cannot use", secret)
    except ValueError as error:
        logging.getLogger("test").exception("with %s and %r", secret, {"key": secret})
        printed = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert "***" in caplog.text
    assert "***" in printed
    assert CANARY not in caplog.text
    # The line that calls reveal() is source text; locals are shown by their repr.
    assert CANARY not in printed


class TestOptions:
    def options(self, monkeypatch: pytest.MonkeyPatch) -> KeyedOptions:
        monkeypatch.setenv("CANARY_KEY", CANARY)
        return KeyedOptions.model_validate({"api_key": "env:CANARY_KEY", "headers": {"x": "env:CANARY_KEY"}})

    def test_show_the_reference_only(self, monkeypatch: pytest.MonkeyPatch) -> None:
        options = self.options(monkeypatch)
        shown = [repr(options), str(options), str(options.model_dump()), options.model_dump_json()]
        for text in shown:
            assert "env:CANARY_KEY" in text
            assert CANARY not in text
        assert options.api_key.resolve(Path()).reveal() == CANARY
        assert CANARY not in repr(options)
        assert CANARY not in json.dumps(KeyedOptions.model_json_schema())

    @pytest.mark.parametrize(
        "given", [CANARY, f"env:{CANARY}", f"Bearer {CANARY}", "", "env:", "file:", 7, [CANARY], None]
    )
    def test_a_literal_is_refused_and_not_quoted(self, given: object) -> None:
        with pytest.raises(ValidationError) as caught:
            KeyedOptions.model_validate({"api_key": given, "headers": {}})
        details = caught.value.errors(include_url=False, include_input=False)
        for text in (str(caught.value), repr(caught.value), str(details), caught.value.json(include_input=False)):
            assert CANARY not in text
        printed = "".join(traceback.format_exception(caught.value))
        assert CANARY not in printed

    def test_constructing_a_reference_from_a_literal_does_not_quote_it(self) -> None:
        with pytest.raises(ValueError, match="env:NAME or file:path") as caught:
            SecretRef(CANARY)
        assert CANARY not in str(caught.value)
        assert CANARY not in repr(caught.value)

    def test_a_broken_secret_file_is_named_and_not_quoted(self, tmp_path: Path) -> None:
        (tmp_path / "key").write_bytes(CANARY.encode() + b"\xff")
        with pytest.raises(UsageError, match="is not UTF-8 text") as caught:
            SecretRef("file:key").resolve(tmp_path)
        assert CANARY not in str(caught.value)
        assert CANARY not in str(caught.value.problems)
        assert caught.value.__context__ is None
