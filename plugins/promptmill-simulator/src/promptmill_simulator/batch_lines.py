"""Answers the lines of a batch with the same operations, faults and books as single questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from promptmill import jsontext
from promptmill.clock import Clock
from promptmill_simulator.apierror import ApiError
from promptmill_simulator.batch_input import Line
from promptmill_simulator.batch_record import BatchRecord
from promptmill_simulator.fault_rule import CONTENT, FaultRule
from promptmill_simulator.faults import Faults, unprocessed_reply
from promptmill_simulator.ids import Ids
from promptmill_simulator.ledger import Ledger
from promptmill_simulator.models import Models
from promptmill_simulator.operation import Operation

_EXPIRED: Final = {
    "code": "batch_expired",
    "message": "This request could not be executed before the completion window expired.",
}
_CANCELLED: Final = {
    "code": "batch_cancelled",
    "message": "This request was not executed because the batch was cancelled.",
}


class LineResult(msgspec.Struct, frozen=True):
    """The line to write about a request, and whether the request went well."""

    good: bool
    value: dict[str, Any]


class LineAnswers(msgspec.Struct, frozen=True):
    """Makes the lines of output and error files."""

    operations: Mapping[str, Operation]
    models: Models
    faults: Faults
    ledger: Ledger
    ids: Ids
    clock: Clock

    async def answer(self, record: BatchRecord, line: Line, status: int | None = None) -> LineResult:
        """Work on a line and count it in ``record``; with a ``status`` it fails so, whatever the fault rules say."""
        request_id = self.ids.make("req_")
        try:
            code, body = await self._body(record, line, request_id, status)
        except ApiError as error:
            code, body = error.status, error.body
            self.ledger.write(
                "batch-line", "rejected", code, request_id=request_id, custom_id=line.custom_id, batch=record.id
            )
        good = code == 200
        record.completed += good
        record.failed += not good
        response = {"status_code": code, "request_id": request_id, "body": body}
        return LineResult(good, self._line(line.custom_id, response, None))

    def undone(self, record: BatchRecord, line: Line, ending: str | None) -> LineResult:
        """The line to write for one that was never answered, because the batch ended so before."""
        record.failed += 1
        return LineResult(False, self._line(line.custom_id, None, _CANCELLED if ending == "cancelled" else _EXPIRED))

    def input_tokens(self, endpoint: str, lines: Sequence[Line]) -> int:
        """The input tokens of lines; those that will be rejected have none."""
        tokens = 0
        for line in lines:
            try:
                tokens += self.operations[endpoint].read(line.body).input_tokens
            except ApiError:
                continue
        return tokens

    async def _body(
        self, record: BatchRecord, line: Line, request_id: str, status: int | None
    ) -> tuple[int, dict[str, Any]]:
        operation = self.operations[record.order.endpoint]
        task = operation.read(line.body)
        self.models.check(task.model)
        if status is None:
            fault = self.faults.choose("batch-line", task.prompt, line.custom_id, task.digest)
        else:
            fault = FaultRule.model_validate({"kind": "status", "status": status})
        entry: dict[str, Any] = {
            "request_id": request_id,
            "model": task.model,
            "prompt": task.name,
            "custom_id": line.custom_id,
            "batch": record.id,
            "fault": None if fault is None else fault.kind,
        }
        if fault is not None and fault.kind == "status":
            reply = unprocessed_reply(fault, self.clock.wall())
            self.ledger.write("batch-line", "failed", reply.status, **entry)
            return reply.status, jsontext.decode(reply.body)
        answered = await operation.answer(task)
        record.input_tokens += answered.input_tokens
        record.output_tokens += answered.output_tokens
        self.ledger.write(
            "batch-line",
            "answered",
            200,
            input_tokens=answered.input_tokens,
            output_tokens=answered.output_tokens,
            **entry,
        )
        body = answered.body
        return 200, operation.spoil(body, fault.kind) if fault is not None and fault.kind in CONTENT else body

    def _line(self, custom_id: str, response: dict[str, Any] | None, error: dict[str, str] | None) -> dict[str, Any]:
        return {"id": self.ids.make("batch_req_"), "custom_id": custom_id, "response": response, "error": error}
