"""Identical requests of one run are sent once: the others wait for the answer of the first and share it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import anyio
import msgspec

from promptmill._journal import request_digest
from promptmill.interfaces import Observer
from promptmill.models import Request, Result, Usage

_decode = msgspec.json.Decoder(Result).decode

NOTHING_USED = Usage(input_tokens=0, cached_tokens=0, output_tokens=0, reasoning_tokens=0)


def is_shared(request: Request, dedupe: bool | None) -> bool:
    """Whether an answer to ``request`` may serve identical ones. ``dedupe`` None: only at temperature 0, where a
    second answer would be the same."""
    return request.params.get("temperature") == 0 if dedupe is None else dedupe


def short_digest(request: Request) -> int:
    """64 bits of the digest: enough to find candidates, since the whole one decides."""
    return int.from_bytes(request_digest(request)[:8], signed=True)


class Twins(Observer):
    """Groups requests that ask the same. ``candidates`` are the short digests that occur more than once."""

    def __init__(self, candidates: Iterable[int], dedupe: bool | None) -> None:
        self._candidates = frozenset(candidates)
        self._dedupe = dedupe
        self._answers: dict[bytes, Result] = {}
        self._leaders: dict[int, bytes] = {}
        self._followers: dict[bytes, list[Request]] = {}
        self._news = anyio.Event()
        self.all_read = False
        """Whether the input is at its end, so that all that is still to be fed waits for the answer of another."""

    def __bool__(self) -> bool:
        return bool(self._candidates)

    def remember(self, answers: Iterable[tuple[bytes, bytes]]) -> None:
        """Take note of answers of earlier processes: digests and records as the journal keeps them."""
        for digest, record in answers:
            if self._is_candidate(digest) and digest not in self._answers:
                self._answers[digest] = _decode(record)

    def take(self, request: Request) -> Request | Result | None:
        """``request`` itself when it is to be sent, its result when there is an answer, None when it waits for one."""
        if not is_shared(request, self._dedupe):
            return request
        digest = request_digest(request)
        if not self._is_candidate(digest):
            return request
        if digest in self._answers:
            return shared_result(self._answers[digest], request)
        if digest in self._followers:
            self._followers[digest].append(request)
            return None
        self._followers[digest] = []
        self._leaders[request.index] = digest
        return request

    def sent(self, requests: Iterable[Request]) -> None:
        """Take note of requests that an earlier process sent and whose answers are still to come."""
        for request in requests:
            digest = request_digest(request)
            known = digest in self._answers or digest in self._followers
            if not known and is_shared(request, self._dedupe) and self._is_candidate(digest):
                self._followers[digest] = []
                self._leaders[request.index] = digest

    def _is_candidate(self, digest: bytes) -> bool:
        return int.from_bytes(digest[:8], signed=True) in self._candidates

    def request_finished(self, result: Result) -> None:
        digest = self._leaders.pop(result.index, None)
        if digest is not None:
            self._answers[digest] = result
            self._news.set()

    @property
    def waiting(self) -> int:
        """Requests that wait for the answer of another."""
        return sum(len(followers) for followers in self._followers.values())

    def ready(self) -> Iterator[tuple[Request, Result]]:
        """Those whose answer has come, each with its result."""
        for digest in [one for one in self._followers if one in self._answers]:
            for request in self._followers.pop(digest):
                yield request, shared_result(self._answers[digest], request)

    async def news(self) -> None:
        """Wait until another answer has come."""
        await self._news.wait()
        self._news = anyio.Event()


def shared_result(answer: Result, request: Request) -> Result:
    """``answer`` as the result of ``request``: nothing was sent for it and nothing paid."""
    return msgspec.structs.replace(
        answer,
        id=request.id,
        index=request.index,
        attempts=0,
        latency_s=None,
        usage=NOTHING_USED,
        cost_usd=0.0,
        meta=request.meta,
    )
