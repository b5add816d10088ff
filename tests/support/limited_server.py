"""Servers with limits, in virtual time, and what a client made of them."""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import anyio
import msgspec

from promptmill._engine import Engine
from promptmill._engine_spec import EngineSpec, Entry
from promptmill._lane import Key, LaneSpec
from promptmill._routing import Route, Router
from promptmill.clock import VirtualClock
from promptmill.errors import ProviderError, RunStopped, Throttled, Transient
from promptmill.interfaces import Observer, RealtimeProvider
from promptmill.models import LimitReading, Message, Request, Response, Result, TokenEstimate, Usage
from promptmill.policies.exponential import ExponentialPolicy
from promptmill.testing import request
from promptmill_simulator.meters import METERS, LimitKind, Meter, Taken

MEDIAN_LATENCY = 2.5
SIGMA = 0.5


class Size(msgspec.Struct, frozen=True):
    """Tokens of one request: what the client estimates, the bound of the answer, and what is really used."""

    estimate: int = 10
    most: int | None = None
    taken: int = 10
    given: int = 10


class Noise(msgspec.Struct, frozen=True):
    """Refusals that have nothing to do with how many calls come: ``share`` of the calls, or of those in the first
    ``bad`` seconds of each minute. ``hint``: the seconds to wait that are told. ``status`` 500 is no refusal at all,
    but what refusals are compared with."""

    share: float
    status: int = 429
    hint: float | None = None
    bad: float = 60.0

    def hits(self, rng: random.Random, now: float) -> bool:
        return now % 60.0 < self.bad and rng.random() < self.share

    def failure(self) -> ProviderError:
        """As the HTTP layer makes it of a reply with that status."""
        if self.status == 500:
            return Transient("broken", code="server_error", http_status=500)
        if self.status == 503 and self.hint is None:
            return Transient("overloaded", code="overloaded", http_status=503)
        code = "rate_limited" if self.status == 429 else "overloaded"
        return Throttled("too many", code=code, http_status=self.status, retry_after=self.hint)


class Server(RealtimeProvider):
    """Answers after a while, within its limits. ``rpm`` and ``tpm`` may be changed while it runs.

    ``cap``: calls it works on at once; it refuses the others. ``hint``: what it says of the wait, whatever is true;
    None where ``tells_wait`` decides. ``names``: whether a refusal names the limit.
    """

    model = "sim"

    def __init__(
        self,
        clock: VirtualClock,
        *,
        rpm: float | None = None,
        tpm: float | None = None,
        kind: LimitKind = "bucket",
        burst: float = 60.0,
        tells_wait: bool = True,
        tells_limits: bool = False,
        settles: bool = False,
        size: Callable[[random.Random], Size] = lambda _: Size(),
        latency: float = MEDIAN_LATENCY,
        sigma: float = SIGMA,
        noise: Noise | None = None,
        cap: int | None = None,
        hint: float | None = None,
        names: bool = True,
        seed: int = 1,
    ) -> None:
        self.clock = clock
        self.charging = "settle" if settles else "reserve"
        self.random = random.Random(seed)
        self._latency = latency
        self._sigma = sigma
        self._noise = noise
        self.cap = cap
        self._hint = hint
        self._burst = burst
        self._names = names
        self._working = 0
        self._tells_wait = tells_wait
        self._tells_limits = tells_limits
        self._size = size
        self._sizes: dict[int, Size] = {}
        self.down = lambda: False
        self.prefixes: list[str] = []
        """How each request that came began."""
        self.accepted: list[tuple[float, float]] = []
        """When, and how many tokens were charged."""
        self.refused: list[float] = []
        """When something was refused for a limit or a cap; ``stray`` is when it was for none."""
        self.stray: list[float] = []
        self._clock_of = clock.wall if METERS[kind].by_wall else clock.now
        now = self._clock_of()
        self.requests: Meter | None = None if rpm is None else METERS[kind](rpm, burst, now)
        self.tokens: Meter | None = None if tpm is None else METERS[kind](tpm, burst, now)

    def size(self, request: Request) -> Size:
        if request.index not in self._sizes:
            self._sizes[request.index] = self._size(self.random)
        return self._sizes[request.index]

    def estimate(self, request: Request) -> TokenEstimate:
        size = self.size(request)
        return TokenEstimate(size.estimate, size.most)

    async def complete(self, request: Request, *, timeout: float) -> Response:
        self.prefixes.append(request.messages[0].text[:10])
        await anyio.sleep(0.01 + self.random.expovariate(1 / 0.0075))
        if self._noise and self._noise.hits(self.random, self.clock.now()):
            self.stray.append(self.clock.now())
            await anyio.sleep(0.01)
            raise self._noise.failure()
        if self.cap is not None and self._working >= self.cap:
            self.refused.append(self.clock.now())
            await anyio.sleep(0.01)
            raise Throttled("too many at once", retry_after=self._hint)
        taken = await self._take(self.size(request))
        self._working += 1
        try:
            return await self._answer(request, taken)
        finally:
            self._working -= 1

    async def _take(self, size: Size) -> list[tuple[Meter, Taken]]:
        charge = size.taken + (size.given if size.most is None else size.most)
        now = self._clock_of()
        wants = [(m, a, n) for m, a, n in ((self.requests, 1.0, "requests"), (self.tokens, charge, "tokens")) if m]
        for meter, amount, name in wants:
            if self.down() or meter.wait_for(amount, now) > 0:
                self.refused.append(self.clock.now())
                await anyio.sleep(0.01)
                wait = meter.wait_for(amount, now) if self._tells_wait and not self.down() else None
                wait = wait if self._hint is None else self._hint
                failure = Throttled("too many", retry_after=wait, dimension=name if self._names else None)
                failure.limits = tuple(self._readings(now)) if self._tells_limits else ()
                raise failure
        taken = [(meter, meter.take(amount, now)) for meter, amount, _ in wants]
        self.accepted.append((self.clock.now(), charge))
        return taken

    async def _answer(self, request: Request, taken: list[tuple[Meter, Taken]]) -> Response:
        size = self.size(request)
        limits = tuple(self._readings(self._clock_of())) if self._tells_limits else ()
        seconds = self._latency * math.exp(self.random.gauss(0, self._sigma))
        await anyio.sleep(seconds)
        del self._sizes[request.index]
        if self.charging == "settle":
            for meter, was in taken:
                if meter is self.tokens:
                    meter.correct(was, size.taken + size.given, self._clock_of())
        usage = Usage(input_tokens=size.taken, output_tokens=size.given)
        return Response(text="x", usage=usage, limits=limits)

    def _readings(self, now: float) -> list[LimitReading]:
        return [
            LimitReading(what=what, window=60.0, limit=meter.limit, remaining=max(meter.remaining(now), 0.0))
            for what, meter in (("requests", self.requests), ("tokens", self.tokens))
            if meter is not None
        ]

    def change_limit(self, rpm: float) -> None:
        """From now on it grants so many requests a minute; what its bucket holds stays, as far as it fits."""
        assert self.requests is not None
        kept = self.requests.remaining(self._clock_of())
        self.requests = type(self.requests)(rpm, self._burst, self._clock_of())
        self.requests.take(
            self.requests.remaining(self._clock_of()) - min(kept, self.requests.capacity), self._clock_of()
        )

    def used(self, start: float, end: float) -> int:
        """Requests accepted between two moments."""
        return sum(start <= at < end for at, _ in self.accepted)

    def refusals(self, start: float, end: float) -> int:
        return sum(start <= at < end for at in self.refused)

    def refused_share(self, start: float, end: float) -> float:
        refused = self.refusals(start, end)
        return refused / max(refused + self.used(start, end), 1)


class Listener(Observer):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warned(self, message: str) -> None:
        self.warnings.append(message)


async def endless() -> AsyncIterator[Sequence[Entry]]:
    index = 0
    while True:
        yield [request(id=str(at), index=at) for at in range(index, index + 20)]
        index += 20


async def some(count: int, text: Callable[[int], str]) -> AsyncIterator[Sequence[Entry]]:
    for start in range(0, count, 20):
        yield [_asking(at, text(at)) for at in range(start, min(start + 20, count))]


def _asking(at: int, text: str) -> Request:
    return request(id=str(at), index=at, messages=(Message(role="user", content=text),))


class Outcome(msgspec.Struct):
    engine: Engine
    results: list[Result]
    took: float
    warnings: list[str]


def mill(
    clock: VirtualClock,
    servers: Mapping[str, RealtimeProvider],
    *,
    limits: Mapping[str, float] | None = None,
    seconds: float = math.inf,
    count: int | None = None,
    concurrency: int | None = None,
    timeout: float = 600.0,
    others: Sequence[Key] = (),
    routes: Sequence[Route] | None = None,
    meanwhile: Callable[[Engine], object] | None = None,
    text: Callable[[int], str] = str,
) -> Outcome:
    """Run ``count`` requests, or for so many virtual seconds, against servers on ``clock``."""
    results: list[Result] = []
    listener = Listener()

    async def consume(group: Sequence[Result]) -> None:
        results.extend(group)

    async def main() -> Outcome:
        lanes = [
            LaneSpec(
                name=name,
                provider=one,
                concurrency=concurrency,
                timeout=timeout,
                limits=limits or {},
                others=tuple(others),
            )
            for name, one in servers.items()
        ]
        router = Router(routes or [Route(next(iter(servers)))], list(servers))
        spec = EngineSpec(
            lanes=lanes, router=router, policy=ExponentialPolicy(seed=1), clock=clock, observers=[listener]
        )
        engine = Engine(spec, consume)

        async def watch() -> None:
            if meanwhile is not None:
                meanwhile(engine)
            await anyio.sleep(seconds)
            engine.stop(RunStopped("time", code="E0999", exit_code=5), grace=0)

        async with anyio.create_task_group() as group:
            if seconds < math.inf:
                group.start_soon(watch)
            await engine.run(endless() if count is None else some(count, text))
            took = clock.now()
            group.cancel_scope.cancel()
        return Outcome(engine, results, took, listener.warnings)

    return clock.run(main)
