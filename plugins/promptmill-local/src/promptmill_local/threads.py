"""The base class of providers whose model blocks: it runs in worker threads, a bounded number at once."""

from __future__ import annotations

import atexit
import logging
import math
import queue
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import anyio

from promptmill.errors import ProviderError, Transient
from promptmill.interfaces import RealtimeProvider
from promptmill.models import Request, Response
from promptmill_local.answers import Answer, as_response
from promptmill_local.calls import Call, Outcome, attempt
from promptmill_local.crew import Crew

CLOSE_GRACE: Final = 5.0
STUCK_AFTER: Final = 10.0
EXIT_GRACE: Final = 1.0

_log = logging.getLogger(__name__)


class ThreadedProvider(RealtimeProvider):
    """Runs a blocking model in threads. Subclass it and write :meth:`generate`; :meth:`load` and :meth:`unload` if
    the model needs them.

    A Python thread cannot be killed. When a call is cancelled or times out it is *abandoned*: the task goes on at
    once, the slot stays taken until the thread really comes back, and the late answer is dropped. A model that can
    stop early asks :meth:`abandoned` now and then.

    A :class:`ProviderError` of the model is the outcome of that attempt. Any other exception escapes as it is: it is
    a bug of the model's code, not a failure of the request.

    Args:
        slots: threads that may be in the model at once. The default, 1, never enters it twice; say more only when
            the model is safe to enter from several threads.
        max_batch: most requests handed to :meth:`generate_batch` together; 1 means :meth:`generate` is called.
        max_wait: seconds a batch that is not full waits for more requests.
        close_grace: seconds :meth:`aclose` waits for threads still in the model, and for :meth:`unload`.
        stuck_after: seconds a new call waits for a slot when every slot is held by an abandoned call.
    """

    free = True
    in_one_process = True

    def __init__(
        self,
        *,
        slots: int = 1,
        max_batch: int = 1,
        max_wait: float = 0.0,
        close_grace: float = CLOSE_GRACE,
        stuck_after: float = STUCK_AFTER,
    ) -> None:
        if slots < 1 or max_batch < 1:
            raise ValueError(f"slots and max_batch must be 1 or more, got {slots} and {max_batch}")
        self.slots = slots
        self.max_batch = max_batch
        self.max_wait = max_wait
        self.close_grace = close_grace
        self.stuck_after = stuck_after
        self.concurrency = slots * max_batch
        self._crew = Crew(type(self).__name__)
        self._waiting: queue.SimpleQueue[_ModelCall] = queue.SimpleQueue()
        self._running: set[Call[Answer]] = set()
        self._here = threading.local()
        self._opened = False
        self._loaded = False
        self._exit_grace = close_grace

    @abstractmethod
    def generate(self, request: Request) -> Answer:
        """Answer one request. Blocks; called in a worker thread.

        Raises:
            ProviderError: the subclass tells what the failure means.
        """

    def generate_batch(self, requests: Sequence[Request]) -> Sequence[Answer | ProviderError]:
        """Answer several requests at once, in their order. Blocks; called in a worker thread when ``max_batch`` > 1.

        A failure of one request is returned in its place; an exception raised fails them all.
        """
        return [self.generate(request) for request in requests]

    def load(self) -> None:
        """Load the model. Blocks; called in a worker thread when the provider is opened."""

    def unload(self) -> None:
        """Free the model. Blocks; called in a worker thread when no other thread is in the model any more, and only
        after :meth:`load` succeeded."""

    def abandoned(self) -> bool:
        """Whether nobody waits any more for what this thread is generating. For use inside :meth:`generate`."""
        calls: Sequence[Call[Answer]] = getattr(self._here, "calls", ())
        return bool(calls) and all(call.abandoned for call in calls)

    async def aopen(self) -> None:
        self._limiter = anyio.CapacityLimiter(self.slots * self.max_batch)
        self._idle = anyio.Event()
        self._crew.hire(1)
        atexit.register(self._leave_process)
        try:
            await self._in_thread(self._load)
        except BaseException as error:
            if isinstance(error, Exception):
                # The load itself failed, so no thread is in it any more.
                atexit.unregister(self._leave_process)
            # A load that was given up may still succeed: the same thread then frees what it brought.
            self._crew.submit(self._unload_late)
            self._crew.dismiss()
            raise
        self._crew.hire(self.slots - 1)
        self._opened = True

    async def aclose(self) -> None:
        """Wait a bounded time for the threads, then free the model.

        When threads are still in the model after ``close_grace`` seconds, it is left as it is and a warning is
        logged: freeing a model under a running thread would crash the process.
        """
        if not self._opened:
            return
        self._opened = False
        for call in self._running:
            call.abandoned = True
        with anyio.move_on_after(self.close_grace, shield=True):
            while self._running:
                await self._idle.wait()
        if self._running:
            _log.warning("%s: %d calls are still running; model not freed", type(self).__name__, len(self._running))
            self._exit_grace = min(EXIT_GRACE, self.close_grace)
            self._crew.dismiss()
            return
        try:
            with anyio.move_on_after(self.close_grace, shield=True) as scope:
                await self._in_thread(self._unload)
        finally:
            self._crew.dismiss()
        if scope.cancelled_caught:
            _log.warning("%s: the model took too long to free; its thread is left behind", type(self).__name__)
        elif self._crew.join(self.close_grace):
            atexit.unregister(self._leave_process)

    async def complete(self, request: Request, *, timeout: float) -> Response:  # noqa: ARG002 - the engine cancels
        """Answer ``request`` in a worker thread.

        Raises:
            Transient: every slot has been held for a while by a call that was abandoned (``model_stuck``).
            ProviderError: as the model raised it.
        """
        if not self._opened:
            raise RuntimeError(f"{type(self).__name__} is not open: use it inside 'async with'")
        call = _ModelCall(request, self._leave)
        await self._enter(call)
        self._waiting.put(call)
        self._crew.submit(self._serve)
        return as_response(await call.result(), self.model)

    async def _enter(self, call: Call[Answer]) -> None:
        patience = self.stuck_after if self._stuck() else math.inf
        with anyio.move_on_after(patience):
            await self._limiter.acquire_on_behalf_of(call)
            self._running.add(call)
            return
        raise Transient(
            f"no slot came free in {self.stuck_after:g} s: {len(self._running)} abandoned calls are still in the model",
            code="model_stuck",
        )

    def _leave(self, call: Call[Answer]) -> None:
        self._running.discard(call)
        self._limiter.release_on_behalf_of(call)
        if not self._running:
            self._idle.set()
            self._idle = anyio.Event()

    def _stuck(self) -> bool:
        return self._limiter.available_tokens < 1 and all(call.abandoned for call in self._running)

    async def _in_thread(self, work: Callable[[], None]) -> None:
        call: Call[None] = Call()
        self._crew.submit(lambda: call.deliver(attempt(work)))
        await call.result()

    def _load(self) -> None:
        self.load()
        self._loaded = True

    def _unload(self) -> None:
        if self._loaded:
            self._loaded = False
            self.unload()

    def _unload_late(self) -> None:
        try:
            self._unload()
        except Exception:  # noqa: BLE001 - nobody is left to raise it to
            _log.exception("%s: the model could not be freed", type(self).__name__)

    def _leave_process(self) -> None:
        """The last chance, at exit, for a provider that was not closed or not left by its threads.

        A thread that comes out of native code while the interpreter is taken down aborts the process (before 3.14),
        and with it the exit code.
        """
        for call in tuple(self._running):
            call.abandoned = True
        self._crew.dismiss()
        if self._crew.join(self._exit_grace):
            self._unload_late()

    def _serve(self) -> None:
        """One turn of a worker thread: answer the requests that wait, at most a batch of them."""
        calls = self._gather()
        wanted = [call for call in calls if not call.abandoned]
        self._here.calls = wanted
        outcomes = dict(zip(wanted, self._answer([call.request for call in wanted]), strict=True)) if wanted else {}
        self._here.calls = ()
        for call in calls:
            call.deliver(outcomes.get(call))

    def _gather(self) -> list[_ModelCall]:
        calls: list[_ModelCall] = []
        until = time.monotonic() + self.max_wait
        while len(calls) < self.max_batch:
            # There is one turn a call, so a turn that comes behind a batch finds nothing and ends at once.
            left = until - time.monotonic() if calls else 0.0
            try:
                calls.append(self._waiting.get(timeout=left) if left > 0 else self._waiting.get_nowait())
            except queue.Empty:
                break
        return calls

    def _answer(self, requests: Sequence[Request]) -> list[Outcome[Answer]]:
        if self.max_batch == 1:
            return [attempt(partial(self.generate, requests[0]))]
        batch = attempt(partial(self._answer_batch, requests))
        return [partial(_pick, batch, position) for position in range(len(requests))]

    def _answer_batch(self, requests: Sequence[Request]) -> Sequence[Answer | ProviderError]:
        answers = self.generate_batch(requests)
        if len(answers) != len(requests):
            raise RuntimeError(f"generate_batch returned {len(answers)} answers for {len(requests)} requests")
        return answers


class _ModelCall(Call[Answer]):
    """A call for one request."""

    def __init__(self, request: Request, ended: Callable[[Call[Answer]], None]) -> None:
        super().__init__(ended)
        self.request = request


def _pick(batch: Outcome[Sequence[Answer | ProviderError]], position: int) -> Answer:
    answer = batch()[position]
    if isinstance(answer, ProviderError):
        raise answer
    return answer
