"""Where shards are handed in at a provider: one batch for each, whatever goes wrong on the way.

The order of steps is what makes it safe: first the shard's row says ``submitting``, synced; then the provider is asked
to create; then the row says ``submitted`` with the handle. Whoever finds ``submitting`` asks the provider what became
of it before creating anything.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, Protocol, TypeVar, TypeVarTuple, Unpack

import anyio
import msgspec

from promptmill._batching.polling import Intervals
from promptmill._ratecap import RateCap
from promptmill.batch import BatchProvider, BatchStatus, Shard
from promptmill.clock import Clock
from promptmill.errors import AuthFailed, Permanent, ProviderError, QuotaExhausted, Throttled, Transient

SETTLE_S: Final = 15.0
"""After a reply to create was lost, the least wait before the provider's list is believed: lists lag behind. Also
after a start, since the process before it may have died a moment ago, with its call still under way."""

MOST_NOT_FOUND: Final = 5
"""Looks in a row that must not see a batch before it counts as gone: lists and look-ups lag behind."""

OVERDUE_S: Final = 1800.0
"""A batch that is not over this long after its window is cancelled, and one that is not over this long after that is
given up: providers have been seen to leave batches in a state for ever."""

CALLS_PER_SECOND: Final = 10.0
"""Calls about batches, and files sent and fetched, are begun no faster, however many batches there are."""

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Keeper(Protocol):
    """Remembers durably how far a shard has come. Both raise StorageError."""

    async def submitting(self, shard: Shard) -> None:
        """``shard`` is about to be sent: on return a killed process cannot forget it."""
        ...

    async def submitted(self, shard: Shard, handle: str) -> None:
        """The provider has ``shard`` under ``handle``."""
        ...


class DeskSpec(msgspec.Struct, frozen=True, kw_only=True):
    """``timeout`` seconds a call to the provider may take, ``poll_interval`` the first wait between two looks."""

    provider: BatchProvider
    keeper: Keeper
    clock: Clock
    poll_interval: float
    timeout: float
    warn: Callable[[str], None]


class Desk:
    """Submits shards and follows their batches to the end. One task a shard; any number of shards at once.

    What is not the shard's own fault and may pass (Transient, Throttled, NeverSent, BadOutput) is waited out.

    Raises:
        ProviderError: AuthFailed and QuotaExhausted, which concern the whole run, and Permanent.
    """

    def __init__(self, spec: DeskSpec) -> None:
        self._spec = spec
        self._provider = spec.provider
        self._calls = RateCap(CALLS_PER_SECOND)

    async def submit(self, shard: Shard, *, known: bool) -> BatchStatus:
        """Have exactly one batch for ``shard``. ``known``: an earlier attempt may have made one.

        A shard whose batch failed as a whole, by the provider's own word, may be submitted once more with ``known``
        False.
        """
        waits = self._intervals()
        if known:
            status = await self.find(shard)
        else:
            await self._spec.keeper.submitting(shard)
            status = None
        while status is None:
            status = await self._created(shard, waits) or await self._found(shard, waits)
        await self._spec.keeper.submitted(shard, status.handle)
        return status

    async def follow(self, shard: Shard, handle: str) -> BatchStatus:
        """Wait until the batch of ``shard`` is over.

        Raises:
            Permanent: ``batch_gone`` when the provider knows neither the handle nor the tag any more, ``batch_stuck``
                when it does not come to an end.
        """
        waits = self._intervals()
        watch = Watchdog(self._provider.limits.window_s, self._spec.clock)
        unseen = 0
        while True:
            try:
                status = await self._call(self._provider.poll, handle)
            except Permanent as failure:
                if failure.code != "batch_not_found":
                    raise
                unseen += 1
                if unseen >= MOST_NOT_FOUND:
                    handle = await self._adopted(shard, handle)
                    unseen = 0
            except (AuthFailed, QuotaExhausted):
                raise
            except ProviderError as failure:
                self._spec.warn(f"batch {handle!r} cannot be looked at: {failure.message}")
                await self._wait(waits, failure)
                continue
            else:
                unseen = 0
                if status.is_final:
                    return status
                await self._watch(watch, status)
            await self._wait(waits)

    async def cancel(self, handle: str) -> None:
        """Ask the provider to end a batch; a failure is only warned of, since the batch is followed anyway.

        Raises:
            ProviderError: AuthFailed and QuotaExhausted.
        """
        try:
            await self._call(self._provider.cancel, handle)
        except (AuthFailed, QuotaExhausted):
            raise
        except ProviderError as failure:
            self._spec.warn(f"batch {handle!r} cannot be cancelled: {failure.message}")

    async def find(self, shard: Shard) -> BatchStatus | None:
        """The batch of a ``shard`` that an earlier process was about to submit, if there is one."""
        waits = self._intervals()
        status = await self._found(shard, waits)
        if status is None:
            await self._spec.clock.sleep(SETTLE_S)
            status = await self._found(shard, waits)
        return status

    async def fetch(self, handle: str, directory: Path) -> Sequence[Path]:
        """Bring the results of a batch that is over; what may pass is waited out. Raises StorageError too."""
        waits = self._intervals()
        while True:
            try:
                return await self._call(self._provider.download, handle, directory)
            except (Permanent, AuthFailed, QuotaExhausted):
                raise
            except ProviderError as failure:
                self._spec.warn(f"the results of batch {handle!r} cannot be fetched yet: {failure.message}")
                await self._wait(waits, failure)

    async def forget(self, handle: str) -> None:
        """Let the provider delete what it keeps of a batch. Quiet when it does not."""
        try:
            await self._call(self._provider.forget, handle)
        except ProviderError as failure:
            self._spec.warn(f"the files of batch {handle!r} were not deleted: {failure.message}")

    async def _created(self, shard: Shard, waits: Intervals) -> BatchStatus | None:
        """Create the batch. None: it is not known whether there is one now."""
        try:
            return await self._call(self._provider.create, shard)
        except (Permanent, AuthFailed, QuotaExhausted):
            raise
        except ProviderError as failure:
            self._spec.warn(f"the batch of shard {shard.tag!r} may not have been created: {failure.message}")
            await self._wait(waits, failure, least=SETTLE_S)
            return None

    async def _found(self, shard: Shard, waits: Intervals) -> BatchStatus | None:
        """Look for a batch until there is an answer. None: there is none."""
        while True:
            try:
                return await self._call(self._provider.find, shard.tag)
            except (Permanent, AuthFailed, QuotaExhausted):
                raise
            except ProviderError as failure:
                self._spec.warn(f"the list of batches cannot be read: {failure.message}")
                await self._wait(waits, failure)

    async def _adopted(self, shard: Shard, handle: str) -> str:
        status = await self._found(shard, self._intervals())
        if status is None:
            raise Permanent(
                f"the provider knows no batch {handle!r} any more: another key or project, or it was deleted",
                code="batch_gone",
            )
        if status.handle != handle:
            await self._spec.keeper.submitted(shard, status.handle)
        return status.handle

    async def _watch(self, watch: Watchdog, status: BatchStatus) -> None:
        if watch.given_up:
            raise Permanent(
                f"batch {status.handle!r} is {status.raw_state!r} and does not come to an end", code="batch_stuck"
            )
        if watch.is_overdue and status.state != "cancelling":
            self._spec.warn(f"batch {status.handle!r} is {status.raw_state!r} beyond its window and is cancelled")
            await self.cancel(status.handle)

    async def _call(self, call: Callable[[Unpack[Ts]], Awaitable[T]], *args: *Ts) -> T:
        await self._calls.acquire()
        try:
            with anyio.fail_after(self._spec.timeout):
                return await call(*args)
        except TimeoutError:
            raise Transient(f"no answer within {self._spec.timeout:g} s", code="timeout") from None

    async def _wait(self, waits: Intervals, failure: ProviderError | None = None, *, least: float = 0.0) -> None:
        asked = failure.retry_after if isinstance(failure, Throttled) and failure.retry_after else 0.0
        await self._spec.clock.sleep(max(waits.next(), asked, least))

    def _intervals(self) -> Intervals:
        return Intervals(self._spec.poll_interval)


class Watchdog:
    """Whether a batch takes longer than any should. ``window`` seconds are what its provider promises; None: nothing.

    Time counts from the moment this process first looked, so a restart is patient once more.
    """

    def __init__(self, window: float | None, clock: Clock) -> None:
        self._clock = clock
        self._overdue_at = None if window is None else clock.now() + window + OVERDUE_S

    @property
    def is_overdue(self) -> bool:
        return self._overdue_at is not None and self._clock.now() >= self._overdue_at

    @property
    def given_up(self) -> bool:
        return self._overdue_at is not None and self._clock.now() >= self._overdue_at + OVERDUE_S
