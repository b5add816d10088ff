"""The way of one question through the simulated model: fault, limit, latency, answer, books."""

from __future__ import annotations

import msgspec

from promptmill.clock import Clock
from promptmill_simulator.apierror import ApiError, Headers, Reply
from promptmill_simulator.call import Call
from promptmill_simulator.distribution import Distribution
from promptmill_simulator.fault_rule import CONTENT, UNPROCESSED, FaultRule
from promptmill_simulator.faults import Faults, unprocessed_reply
from promptmill_simulator.ledger import Ledger, Outcome
from promptmill_simulator.limits import Account, RateLimiter
from promptmill_simulator.meters import Taken
from promptmill_simulator.models import Models
from promptmill_simulator.operation import Answered, Operation
from promptmill_simulator.task import Task


class Realtime(msgspec.Struct, frozen=True):
    """Answers questions one by one."""

    models: Models
    faults: Faults
    limiter: RateLimiter
    latency: Distribution
    ledger: Ledger
    clock: Clock

    async def handle(self, call: Call, operation: Operation, request_id: str) -> tuple[Reply, FaultRule | None]:
        """Return the reply and the fault that is to spoil its delivery."""
        try:
            task = operation.read(await call.json_object())
            self.models.check(task.model)
        except ApiError as error:
            self.ledger.write(operation.name, "rejected", error.status, request_id=request_id)
            raise
        account = self.limiter.account(task.model)
        charged = self._admit(account, task, request_id)
        try:
            return await self._admitted(operation, task, account, charged, request_id)
        finally:
            if account is not None:
                account.leave()

    async def _admitted(
        self, operation: Operation, task: Task, account: Account | None, charged: Taken | None, request_id: str
    ) -> tuple[Reply, FaultRule | None]:
        # What is left is told as of admission: a client takes it as what it may still send after this request.
        headers = [] if account is None else account.headers(self.limiter.now())
        fault = self.faults.choose(task.operation, task.prompt, key=task.digest)
        if fault is not None and fault.kind in UNPROCESSED:
            reply = unprocessed_reply(fault, self.clock.wall())
            self._enter(task, "failed", reply.status, request_id, fault=fault.kind)
            return _with(reply, headers), fault
        answered = await self._process(operation, task, fault, request_id)
        if account is not None:
            account.settle(charged, answered.input_tokens + answered.output_tokens, self.limiter.now())
        body = answered.body
        if fault is not None and fault.kind in CONTENT:
            body = operation.spoil(body, fault.kind)
        return _with(operation.reply(task, body), headers), fault

    async def _process(
        self,
        operation: Operation,
        task: Task,
        fault: FaultRule | None,
        request_id: str,
    ) -> Answered:
        self.ledger.began()
        try:
            if not self.latency.is_zero:
                await self.clock.sleep(self.latency.at(task.fraction(2)))
            answered = await operation.answer(task)
        except ApiError as error:
            self._enter(task, "failed", error.status, request_id)
            raise
        finally:
            self.ledger.ended()
        self.ledger.write(
            task.operation,
            "answered",
            200,
            request_id=request_id,
            model=task.model,
            prompt=task.name,
            fault=None if fault is None else fault.kind,
            input_tokens=answered.input_tokens,
            output_tokens=answered.output_tokens,
        )
        return answered

    def _admit(self, account: Account | None, task: Task, request_id: str) -> Taken | None:
        if account is None:
            return None
        try:
            return account.admit(task, self.limiter.now())
        except ApiError as error:
            self._enter(task, "refused", error.status, request_id)
            raise

    def _enter(self, task: Task, outcome: Outcome, status: int, request_id: str, fault: str | None = None) -> None:
        self.ledger.write(
            task.operation,
            outcome,
            status,
            request_id=request_id,
            model=task.model,
            prompt=task.name,
            fault=fault,
        )


def _with(reply: Reply, headers: Headers) -> Reply:
    return Reply(reply.status, reply.body, [*reply.headers, *headers]) if headers else reply
