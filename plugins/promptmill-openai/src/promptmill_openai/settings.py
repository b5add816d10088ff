"""Options that all providers of this plugin share: where the server is, the key for it, and what to add to a call."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field

from promptmill.errors import UsageError
from promptmill.http import HttpSettings
from promptmill.options import BuildContext, KeyUse, ProviderOptions, SecretRef
from promptmill.secrets import Secret, names_a_secret
from promptmill_openai.address import DEFAULT_BASE_URL, is_official, normalised
from promptmill_openai.endpoint import Endpoint
from promptmill_openai.way import described, doubts_about, ways_changed

KEY_VARIABLE: Final = "OPENAI_API_KEY"
BASE_URL_VARIABLE: Final = "OPENAI_BASE_URL"

_SECRET_HEADERS: Final = frozenset({"authorization", "proxy-authorization", "cookie"})
_OWN_HEADERS: Final = frozenset({"content-type", "content-length", "transfer-encoding", "content-encoding", "host"})
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e\t]*")


def _checked_value(value: str) -> str:
    if not _HEADER_VALUE.fullmatch(value):
        raise ValueError("a header value is printable ASCII on one line")
    return value


def _checked_headers(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        lower = name.lower()
        if lower in _SECRET_HEADERS:
            raise ValueError(
                f"headers must not hold {name!r}: keys are never written into a job, use api_key: env:NAME"
            )
        if names_a_secret(name) and _reference(value) is None:
            raise ValueError(
                f"headers must not hold {name!r} as itself: keys are never written into a job, use api_key: env:NAME, "
                f"or a reference here ({name}: env:NAME)"
            )
        if lower in _OWN_HEADERS or not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"headers cannot set {name!r}: it is set by promptmill, or no header name")
    return {name.lower(): value for name, value in headers.items()}


def _checked_body(body: dict[str, Any]) -> dict[str, Any]:
    if name := next(_named_references(body), None):
        raise ValueError(
            f"extra_body cannot hold a reference ({name}): send it as a header, headers: {{NAME: env:...}}"
        )
    return body


def _named_references(value: object) -> Iterator[str]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in pairs:
        if isinstance(inner, str):
            if isinstance(name, str) and names_a_secret(name) and _reference(inner) is not None:
                yield name
        else:
            yield from _named_references(inner)


def _reference(value: str) -> SecretRef | None:
    try:
        return SecretRef(value)
    except ValueError:
        return None


def _digest(value: str) -> str:
    return blake2b(value.encode(), digest_size=8).hexdigest()


HeaderValue = Annotated[str, AfterValidator(_checked_value)]


class OpenAIOptions(ProviderOptions):
    """Base of the options of this plugin's providers."""

    how_only = ProviderOptions.how_only | {"organization", "project", "http"}
    where_only = frozenset({"base_url"})

    model: str = Field(min_length=1, description="The model that answers when a request names none.")
    base_url: Annotated[str, AfterValidator(normalised)] | None = Field(
        None, description=f"Where the API is; default: {BASE_URL_VARIABLE}, else {DEFAULT_BASE_URL}."
    )
    api_key: SecretRef | None = Field(
        None, description=f"The key; default: env:{KEY_VARIABLE}, for OpenAI's own hosts only."
    )
    organization: HeaderValue | None = Field(None, description="Sent as OpenAI-Organization.")
    project: HeaderValue | None = Field(None, description="Sent as OpenAI-Project.")
    headers: Annotated[dict[str, HeaderValue], AfterValidator(_checked_headers)] = Field(
        {}, description="Further headers of every call; a secret one as env:NAME or file:path."
    )
    extra_body: Annotated[dict[str, Any], AfterValidator(_checked_body)] = Field(
        {}, description="Members merged into every request body; they win."
    )
    http: HttpSettings = HttpSettings()

    def endpoint_at(self, path: str, context: BuildContext) -> Endpoint:
        """The endpoint at ``path`` (``/chat/completions``) below the base URL, with its key; not open yet.

        Raises:
            UsageError: the base URL in the environment is wrong, or a key is missing or cannot be one.
        """
        base_url = self.base_url or _base_url_from_environment()
        headers = {"content-type": "application/json", "accept": "application/json"}
        if self.organization:
            headers["openai-organization"] = self.organization
        if self.project:
            headers["openai-project"] = self.project
        return Endpoint(
            base_url + path,
            headers=headers | {name: value for name, value in self.headers.items() if _reference(value) is None},
            secrets={} if context.planning else self._secret_headers(context),
            key=self._key(base_url, context),
            settings=self.http,
            connections=self.max_concurrency,
            clock=context.clock,
        )

    def identity(self) -> dict[str, Any]:
        """As that of all options; of headers, which may hold secrets, there is a digest, and nothing of references."""
        told = super().identity()
        if "headers" in told:
            own = {name: value for name, value in self.headers.items() if _reference(value) is None}
            told["headers"] = {name: _digest(value) for name, value in own.items()}
        return told

    def key_uses(self, context: BuildContext) -> Sequence[KeyUse]:
        base_url = self.base_url or _base_url_from_environment()
        main = self._reference(base_url, context)
        where = described(base_url, self.http)
        return [
            KeyUse(str(reference), where, tuple(self._doubts(reference, base_url, context)))
            for reference in (main, *map(_reference, self.headers.values()))
            if reference is not None
        ]

    def _secret_headers(self, context: BuildContext) -> dict[str, Secret]:
        """Raises UsageError."""
        found = {}
        for name, value in self.headers.items():
            if (reference := _reference(value)) is not None:
                found[name] = secret = reference.resolve(context.base_dir)
                if not _HEADER_VALUE.fullmatch(secret.reveal()):
                    raise UsageError(
                        f"the header {name!r} of the provider {context.name!r} cannot be what {reference} holds",
                        code="E0113",
                        hint="a header value is printable ASCII on one line",
                    )
        return found

    def _key(self, base_url: str, context: BuildContext) -> Secret | None:
        """The key for this server."""
        reference = None if context.planning else self._reference(base_url, context)
        if reference is None:
            return None
        if self.api_key is None and not os.environ.get(KEY_VARIABLE):
            raise UsageError(
                f"the provider {context.name!r} has no key for {base_url!r}: {KEY_VARIABLE} is not set or empty",
                code="E0110",
                hint=f"export {KEY_VARIABLE}=..., or name the key in the job with api_key: env:NAME or file:path",
            )
        key = reference.resolve(context.base_dir)
        if not re.fullmatch(r"[\x21-\x7e]+", key.reveal()):
            raise UsageError(
                f"the key from {reference} for the provider {context.name!r} is not one word of printable ASCII",
                code="E0113",
                hint="check for blanks, line breaks and quotation marks that came along when it was copied",
            )
        return key

    def _reference(self, base_url: str, context: BuildContext) -> SecretRef | None:
        """The key that is sent. The default key belongs to OpenAI: it goes nowhere else, and not by a way that the job
        chose. Raises UsageError."""
        if self.api_key is not None:
            return self.api_key
        if not is_official(base_url):
            return None
        if changed := ways_changed(self.http):
            raise UsageError(
                f"the provider {context.name!r} names no key and changes the way to {base_url!r} "
                f"({', '.join(f'http.{one}' for one in changed)}): {KEY_VARIABLE} is not sent by it",
                code="E0116",
                hint=f"if you trust that way with your key, say so in the job: api_key: env:{KEY_VARIABLE}",
            )
        return SecretRef(f"env:{KEY_VARIABLE}")

    def _doubts(self, reference: SecretRef, base_url: str, context: BuildContext) -> Iterator[str]:
        yield from doubts_about(base_url, self.http)
        if reference.is_open_to_others(context.base_dir):
            yield f"other users can read {reference}"


def _base_url_from_environment() -> str:
    value = os.environ.get(BASE_URL_VARIABLE, "").strip()
    if not value:
        return DEFAULT_BASE_URL
    try:
        return normalised(value)
    except ValueError as error:
        raise UsageError(
            f"the environment variable {BASE_URL_VARIABLE} cannot be used: {error}", code="E0112"
        ) from error
