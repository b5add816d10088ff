"""Chooses which rule hits a request. The choice depends on the seed and the question, not on the order of arrival."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from promptmill_simulator.apierror import ApiError, Headers, Reply, default_text
from promptmill_simulator.fault_rule import FaultRule, group_of
from promptmill_simulator.task import Digester

_HTML = (
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n"
)
_HTML_END = b"<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"


class Faults:
    """Holds the rules, and counts for those that need it."""

    def __init__(self, rules: Sequence[FaultRule], digester: Digester) -> None:
        self._rules = tuple(rules)
        self._digester = digester
        self.reset()

    def reset(self) -> None:
        """Forget all counts: the next requests are the first ones again."""
        self._matched: Counter[int] = Counter()
        self._hits: Counter[int] = Counter()
        self._seen: Counter[tuple[int, bytes]] = Counter()

    def early(self, operation: str) -> FaultRule | None:
        """The rule that hits before the request is read."""
        return self._choose(operation, "", None, group_of(operation).encode(), early=True) if self._rules else None

    def choose(
        self, operation: str, prompt: str = "", custom_id: str | None = None, key: bytes = b""
    ) -> FaultRule | None:
        """The first rule that hits. ``key`` stands for the question: with a rate, a repeated question is drawn anew.

        ``operation`` is that of a model, ``batch-line``, or an endpoint such as ``files.content``.
        """
        if not self._rules:
            return None
        return self._choose(operation, prompt, custom_id, key or group_of(operation).encode(), early=False)

    def _choose(
        self, operation: str, prompt: str, custom_id: str | None, key: bytes, *, early: bool
    ) -> FaultRule | None:
        for number, rule in enumerate(self._rules):
            if (rule.kind == "reset-early") is not early or not rule.about(operation):
                continue
            if rule.prompt is not None and rule.prompt not in prompt:
                continue
            if rule.id is not None and rule.id != custom_id:
                continue
            if self._hit(number, rule, key):
                return rule
        return None

    def _hit(self, number: int, rule: FaultRule, key: bytes) -> bool:
        if rule.times is not None and self._hits[number] >= rule.times:
            return False
        if rule.every > 1:
            self._matched[number] += 1
            if self._matched[number] % rule.every:
                return False
        if rule.rate < 1:
            occasion = self._seen[number, key[:16]]
            self._seen[number, key[:16]] += 1
            if self._digester.fraction(b"fault %d %d " % (number, occasion) + key) >= rule.rate:
                return False
        if rule.times is not None:
            self._hits[number] += 1
        return True


def unprocessed_reply(rule: FaultRule, wall: float) -> Reply:
    """The reply of a rule that stands for the whole answer (``status``, ``html``)."""
    headers: Headers = rule.retry_after.headers(wall)
    if rule.should_retry is not None:
        headers.append((b"x-should-retry", b"true" if rule.should_retry else b"false"))
    if rule.kind == "html":
        return Reply(502, _HTML + _HTML_END, [(b"content-type", b"text/html"), *headers])
    words = default_text(rule.status)
    default_code = words.code if rule.type is None else None
    error = ApiError(
        rule.status,
        rule.message or words.message,
        kind=rule.type or words.kind,
        code=rule.code or default_code,
        headers=headers,
    )
    return error.reply()
