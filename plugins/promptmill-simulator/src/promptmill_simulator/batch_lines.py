"""Answers the lines of a batch with the same operations, faults and books as single questions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from promptmill import jsontext
from promptmill.clock import Clock
from promptmill_simulator.apierror import ApiError
from promptmill_simulator.batch_input import Line
from promptmill_simulator.batch_record import BatchRecord
from promptmill_simulator.fault_rule import CONTENT
from promptmill_simulator.faults import Faults, unprocessed_reply
from promptmill_simulator.ids import Ids
from promptmill_simulator.ledger import Ledger
from promptmill_simulator.models import Models
from promptmill_simulator.operation import Operation

EXPIRED: Final = {
    "code": "batch_expired",
    "message": "This request could not be executed before the completion window expired.",
}


class LineAnswers(msgspec.Struct, frozen=True):
    """Makes the lines of output and error files."""

    operations: Mapping[str, Operation]
    models: Models
    faults: Faults
    ledger: Ledger
    ids: Ids
    clock: Clock

    async def answer(self, record: BatchRecord, line: Line) -> tuple[bool, bytes]:
        """Whether it went well, and the line to write; counts it in ``record``."""
        request_id = self.ids.make("req_")
        try:
            status, body = await self._body(record, line, request_id)
        except ApiError as error:
            status, body = error.status, error.body
            self.ledger.write(
                "batch-line", "rejected", status, request_id=request_id, custom_id=line.custom_id, batch=record.id
            )
        good = status == 200
        record.completed += good
        record.failed += not good
        response = {"status_code": status, "request_id": request_id, "body": body}
        return good, self._written(line.custom_id, response, None)

    def expired(self, record: BatchRecord, line: Line) -> bytes:
        """The line to write for one that was never answered."""
        record.failed += 1
        return self._written(line.custom_id, None, EXPIRED)

    async def _body(self, record: BatchRecord, line: Line, request_id: str) -> tuple[int, dict[str, Any]]:
        operation = self.operations[record.order.endpoint]
        task = operation.read(line.body)
        self.models.check(task.model)
        fault = self.faults.choose("batch-line", task.prompt, line.custom_id, task.digest)
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

    def _written(self, custom_id: str, response: dict[str, Any] | None, error: dict[str, str] | None) -> bytes:
        line = {"id": self.ids.make("batch_req_"), "custom_id": custom_id, "response": response, "error": error}
        return jsontext.encode(line) + b"\n"
