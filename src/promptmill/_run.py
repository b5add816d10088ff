"""One run under way: the engine with its tally, as the command line and the Python API see it."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Sequence

import msgspec

from promptmill._binding import Binding
from promptmill._channel import Traffic
from promptmill._delivery import Consumer
from promptmill._engine import GRACE_SECONDS, Engine
from promptmill._engine_spec import EngineSpec, Entry
from promptmill._observers import Audience
from promptmill._report import Summary, Tally
from promptmill.clock import Clock
from promptmill.errors import RunStopped, StorageError
from promptmill.interfaces import RunFinished, RunStarted


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How a run stands. ``total`` is None while the number of inputs is not known; times in seconds."""

    total: int | None
    succeeded: int
    failed: int
    in_flight: int
    retrying: int
    elapsed: float
    tokens: int
    away: int = 0
    """Requests in batches that a provider has."""
    batches: int = 0
    concurrency: int = 0
    """Calls that may be in flight."""
    bindings: dict[str, Binding] = {}
    """Why each provider gets no more calls just now, where it gets none."""
    rests_for: float = 0.0
    """Seconds until a provider that rests, as it asked or for a limit of the job, may be used again."""

    @property
    def finished(self) -> int:
        return self.succeeded + self.failed

    @property
    def rate(self) -> float:
        """Finished requests a second since the start."""
        return self.finished / self.elapsed if self.elapsed > 0 else 0.0

    @property
    def eta(self) -> float | None:
        """Seconds left at the present rate."""
        if self.total is None or not self.rate:
            return None
        return max(self.total - self.finished, 0) / self.rate


def new_run_id(clock: Clock) -> str:
    """A name for a run: its start (UTC) and a few random characters."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(clock.wall()))}-{secrets.token_hex(3)}"


class Run:
    """One run. ``total`` is the number of inputs, when it is known."""

    def __init__(
        self,
        spec: EngineSpec,
        *,
        total: int | None = None,
        run_id: str | None = None,
        consumer: Consumer | None = None,
    ) -> None:
        self.run_id = run_id or new_run_id(spec.clock)
        self.total = total
        self.tally = Tally({lane.name: lane.price for lane in spec.lanes}.get)
        self._audience = Audience(spec.observers)
        self._clock = spec.clock
        self._engine = Engine(msgspec.structs.replace(spec, observers=(self.tally, *spec.observers)), consumer)
        self._started = spec.clock.now()
        self._ended: float | None = None

    async def mill(self, entries: AsyncIterator[Sequence[Entry]]) -> None:
        """Run to the end, or until stopped. Raises what the engine raises."""
        self._started = self._clock.now()
        self._audience.tell(lambda observer: observer.run_started(RunStarted(run_id=self.run_id, total=self.total)))
        try:
            await self._engine.run(entries)
        finally:
            self._ended = self._clock.now()
            reason = self.stopped.message if self.stopped else None
            self._audience.tell(lambda observer: observer.run_finished(RunFinished(reason=reason)))

    @property
    def stopped(self) -> RunStopped | None:
        """Why the run ended early; None when it came to its end."""
        return self._engine.stopped

    def stop(self, reason: RunStopped, *, grace: float = GRACE_SECONDS) -> None:
        """Start nothing more; calls in flight have ``grace`` seconds to finish."""
        self._engine.stop(reason, grace=grace)

    def abort(self, reason: RunStopped) -> None:
        """Cancel the calls in flight; what has finished is still delivered."""
        self._engine.abort(reason)

    def warn(self, message: str) -> None:
        """Tell observers of something that is not as it should be."""
        self._engine.warn(message)

    def storage_failed(self, error: StorageError) -> None:
        """Stop, since results cannot be stored as they should."""
        self._engine.storage_failed(error)

    def progress(self) -> Progress:
        return Progress(
            total=self.total,
            succeeded=self.tally.succeeded,
            failed=self.tally.failed,
            in_flight=self._engine.in_flight,
            retrying=self._engine.retrying,
            elapsed=self.elapsed,
            tokens=self.tally.tokens,
            away=self._engine.away,
            batches=self._engine.batches,
            concurrency=self._engine.concurrency,
            bindings=self._engine.bindings(),
            rests_for=self._engine.rests_for,
        )

    def summary(self) -> Summary:
        """The summary object. Call it when the run is over."""
        total = self._engine.fed if self.total is None else self.total
        finished = self._engine.finished
        return self.tally.summary(
            run_id=self.run_id,
            total=total,
            elapsed=self.elapsed,
            resumable=finished < total,
            traffic=self.traffic(),
        )

    def traffic(self) -> dict[str, Traffic]:
        """How each provider was used so far."""
        return self._engine.traffic()

    @property
    def elapsed(self) -> float:
        """Seconds since the start; of the whole run once it has ended."""
        return (self._clock.now() if self._ended is None else self._ended) - self._started
