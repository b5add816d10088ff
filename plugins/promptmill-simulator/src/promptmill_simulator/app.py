"""The ASGI application: finds the handler of a request, checks the key, keeps the books of what is not for a model."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import msgspec

from promptmill.clock import Clock
from promptmill.secrets import Secret
from promptmill_simulator.apierror import ApiError, Headers, Reply, json_reply
from promptmill_simulator.call import Call, ClientGone, Event, Receive, Send
from promptmill_simulator.delivery import deliver
from promptmill_simulator.fault_rule import UNPROCESSED, FaultRule
from promptmill_simulator.faults import Faults, unprocessed_reply
from promptmill_simulator.ids import Ids
from promptmill_simulator.ledger import Ledger
from promptmill_simulator.operation import Operation
from promptmill_simulator.realtime import Realtime
from promptmill_simulator.routes import Handler, Router

_SIM: Final = "/_sim/"
Handled: TypeAlias = tuple[Reply | None, FaultRule | None]


class App:
    """Takes every request. ``/_sim/...`` is the simulator's own and needs no key."""

    def __init__(
        self,
        *,
        operations: Mapping[str, Operation],
        realtime: Realtime,
        router: Router,
        faults: Faults,
        ledger: Ledger,
        ids: Ids,
        clock: Clock,
        api_key: Secret | None,
        reset: Callable[[], None],
    ) -> None:
        self._operations = operations
        self._realtime = realtime
        self._router = router
        self._faults = faults
        self._ledger = ledger
        self._ids = ids
        self._clock = clock
        self._authorization = None if api_key is None else b"Bearer " + api_key.reveal().encode()
        self._reset = reset

    async def __call__(self, scope: Event, receive: Receive, send: Send) -> None:
        call = Call(scope, receive, send)
        if call.path.startswith(_SIM):
            await deliver(call, self._own(call))
        else:
            await self._serve(call)

    async def _serve(self, call: Call) -> None:
        started = self._clock.now()
        request_id = self._ids.make("req_")
        fault: FaultRule | None = None
        try:
            operation = self._operations.get(call.path)
            if operation is not None and call.method == "POST":
                reply, fault = await self._ask(call, operation, request_id)
            else:
                reply, fault = await self._store(call, request_id)
        except ApiError as error:
            reply = error.reply()
        except ClientGone:
            return
        except Exception as error:  # noqa: BLE001
            # uvicorn would answer without a word; whoever tests against the simulator should learn what broke.
            reply = ApiError(
                500, f"bug in the simulator: {type(error).__name__}: {error}", code="simulator_bug"
            ).reply()
        if reply is not None:
            elapsed = self._clock.now() - started
            await deliver(call, _stamped(reply, request_id, elapsed), fault)

    async def _ask(self, call: Call, operation: Operation, request_id: str) -> Handled:
        if self._reset_early(call, operation.name, request_id):
            return None, None
        self._check_key(call, operation.name, request_id)
        return await self._realtime.handle(call, operation, request_id)

    async def _store(self, call: Call, request_id: str) -> Handled:
        handler = self._router.find(call)
        if self._reset_early(call, handler.name, request_id):
            return None, None
        self._check_key(call, handler.name, request_id)
        fault = self._faults.choose(handler.name)
        if fault is not None and fault.kind in UNPROCESSED:
            reply = unprocessed_reply(fault, self._clock.wall())
            self._ledger.write(handler.name, "failed", reply.status, request_id=request_id, fault=fault.kind)
            return reply, fault
        return await self._carry_out(call, handler, fault, request_id), fault

    async def _carry_out(self, call: Call, handler: Handler, fault: FaultRule | None, request_id: str) -> Reply:
        try:
            reply = await handler.run(call)
        except ApiError as error:
            self._ledger.write(handler.name, "rejected", error.status, request_id=request_id)
            raise
        kind = None if fault is None else fault.kind
        self._ledger.write(handler.name, "done", reply.status, request_id=request_id, fault=kind)
        return reply

    def _reset_early(self, call: Call, operation: str, request_id: str) -> bool:
        if self._faults.early(operation) is None:
            return False
        self._ledger.write(operation, "failed", 0, request_id=request_id, fault="reset-early")
        call.reset()
        return True

    def _check_key(self, call: Call, name: str, request_id: str) -> None:
        if self._authorization is None:
            return
        given = call.header(b"authorization") or b""
        if hmac.compare_digest(given, self._authorization):
            return
        self._ledger.write(name, "rejected", 401, request_id=request_id)
        if not given:
            raise ApiError(
                401, "You didn't provide an API key. Provide it in an Authorization header using Bearer auth."
            )
        raise ApiError(401, "Incorrect API key provided.", code="invalid_api_key")

    def _own(self, call: Call) -> Reply:
        name = call.path.removeprefix(_SIM)
        if (call.method, name) == ("GET", "ledger"):
            wanted = call.query().get("entries", "")
            return json_reply(self._ledger.summary(int(wanted) if wanted.isdecimal() else None))
        if (call.method, name) == ("POST", "reset"):
            self._reset()
            return json_reply({"reset": True})
        return json_reply({"error": f"there is no {call.method} {call.path}; try GET /_sim/ledger"}, 404)


def _stamped(reply: Reply, request_id: str, elapsed: float) -> Reply:
    stamps: Headers = [
        (b"x-request-id", request_id.encode()),
        (b"openai-processing-ms", b"%d" % (elapsed * 1000)),
        (b"openai-version", b"2020-10-01"),
        (b"openai-organization", b"org-simulator"),
    ]
    return msgspec.structs.replace(reply, headers=[*reply.headers, *stamps])
