"""/v1/batches: create, list, retrieve, cancel."""

from __future__ import annotations

from typing import Any, Final

from promptmill.clock import Clock
from promptmill_simulator.apierror import ApiError, Reply, json_reply
from promptmill_simulator.batch_plan import BatchPlans
from promptmill_simulator.batch_record import BatchOrder, BatchRecord
from promptmill_simulator.batch_runner import BatchRunner
from promptmill_simulator.call import Call
from promptmill_simulator.fields import checked_metadata, required, required_text, wrong_type
from promptmill_simulator.file_store import FileStore
from promptmill_simulator.files import checked_lifetime
from promptmill_simulator.ids import Ids
from promptmill_simulator.ledger import Ledger
from promptmill_simulator.paging import page
from promptmill_simulator.routes import Route

ENDPOINTS: Final = ("/v1/chat/completions", "/v1/responses", "/v1/embeddings")
"""What a batch may be for; the official API has more endpoints, the simulator these."""
OUTPUT_LIFETIME: Final = 30 * 86_400.0
"""Seconds output files are kept when the batch does not say; source: the API reference."""


class Batches:
    """The endpoints of batches."""

    def __init__(
        self,
        *,
        store: FileStore,
        runner: BatchRunner,
        plans: BatchPlans,
        ledger: Ledger,
        ids: Ids,
        clock: Clock,
        speed: float,
    ) -> None:
        self._store = store
        self._runner = runner
        self._plans = plans
        self._ledger = ledger
        self._ids = ids
        self._clock = clock
        self._speed = speed
        self._records: dict[str, BatchRecord] = {}

    def routes(self) -> list[Route]:
        return [
            Route("POST", "/v1/batches", "batches.create", self.create),
            Route("GET", "/v1/batches", "batches.list", self.list),
            Route("GET", "/v1/batches/*", "batches.retrieve", self.retrieve),
            Route("POST", "/v1/batches/*/cancel", "batches.cancel", self.cancel),
        ]

    async def create(self, call: Call, target: str) -> Reply:
        del target
        order = self._order(await call.json_object())
        plan = self._plans.next(order.metadata or {})
        now = self._clock.wall()
        expires = now + plan.times.window / self._speed
        record = BatchRecord(self._ids.make("batch_"), order, plan.script, created_at=now, expires_at=expires)
        self._records[record.id] = record
        self._ledger.batch_created(order.metadata or {})
        self._runner.start(record, plan)
        return json_reply(record.as_dict())

    async def list(self, call: Call, target: str) -> Reply:
        del target
        query = {name: value for name, value in call.query().items() if name in ("after", "limit")}
        records = []
        for record in self._records.values():
            record.lists += 1
            if record.script.looks.lists(record.lists):
                records.append((record.id, record.as_dict()))
        return page(records, query, limit=20, most=100, empty_ids=False)

    async def retrieve(self, call: Call, target: str) -> Reply:
        del call
        record = self._known(target)
        record.looks += 1
        looks = record.script.looks
        if not looks.finds(record.looks):
            raise _unknown(target)
        return json_reply(record.as_dict() | {"status": looks.shown(record.looks, record.status)})

    async def cancel(self, call: Call, target: str) -> Reply:
        await call.body()
        record = self._known(target)
        if not record.script.looks.finds(record.looks + 1):
            raise _unknown(target)
        if record.ended:
            raise ApiError(409, f"Cannot cancel a batch with status '{record.status}'.")
        if record.status != "cancelling":
            self._runner.cancel(record)
        return json_reply(record.as_dict())

    def _known(self, batch_id: str) -> BatchRecord:
        if batch_id not in self._records:
            raise _unknown(batch_id)
        return self._records[batch_id]

    def _order(self, body: dict[str, Any]) -> BatchOrder:
        """Check what is asked for; the contents of the file are looked at later, in ``validating``."""
        file_id, endpoint = required_text(body, "input_file_id"), required_text(body, "endpoint")
        if endpoint not in ENDPOINTS:
            raise _invalid("endpoint", endpoint, ENDPOINTS)
        window = required(body, "completion_window")
        if window != "24h":
            raise _invalid("completion_window", window, ("24h",))
        try:
            stored = self._store.get(file_id)
        except ApiError as error:
            raise ApiError(400, f"Invalid 'input_file_id': no file '{file_id}'.", param="input_file_id") from error
        if stored.purpose != "batch":
            raise ApiError(400, f"The file '{file_id}' has purpose '{stored.purpose}'; it must be 'batch'.",
                           param="input_file_id")  # fmt: skip
        return BatchOrder(
            input_file_id=file_id,
            endpoint=endpoint,
            metadata=checked_metadata(body),
            output_lifetime=_output_lifetime(body),
        )


def _output_lifetime(body: dict[str, Any]) -> float:
    wanted = body.get("output_expires_after")
    if wanted is None:
        return OUTPUT_LIFETIME
    if not isinstance(wanted, dict):
        raise wrong_type("output_expires_after", "an object", wanted)
    if wanted.get("anchor") != "created_at":
        raise _invalid("output_expires_after.anchor", wanted.get("anchor"), ("created_at",))
    return checked_lifetime(wanted.get("seconds"), "output_expires_after.seconds")


def _unknown(batch_id: str) -> ApiError:
    return ApiError(404, f"No batch found with id '{batch_id}'.", param="batch_id")


def _invalid(name: str, value: object, allowed: tuple[str, ...]) -> ApiError:
    choices = ", ".join(f"'{choice}'" for choice in allowed)
    return ApiError(
        400, f"Invalid value: '{value}'. Supported values are: {choices}.", code="invalid_value", param=name
    )
