"""Brings a reply to the client, or spoils it on the way as a fault rule says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final, TypeAlias

import anyio
import anyio.to_thread

from promptmill_simulator.apierror import Reply
from promptmill_simulator.call import Call
from promptmill_simulator.fault_rule import FaultRule

_READ_BYTES: Final = 256 * 1024


async def deliver(call: Call, reply: Reply, fault: FaultRule | None = None) -> None:
    """Send ``reply``; the fault may belong to any class, only those about delivery do something here."""
    way = None if fault is None else _WAYS.get(fault.kind)
    if way is None or fault is None:
        await (_whole(call, reply) if reply.file is None else _file(call, reply, reply.file))
        return
    if reply.file is not None:
        reply = Reply(reply.status, await anyio.to_thread.run_sync(_read, reply.file, reply.span), reply.headers)
    await way(call, reply, fault)


async def _whole(call: Call, reply: Reply) -> None:
    await call.start(reply.status, reply.headers, len(reply.body))
    await call.write(reply.body)


async def _file(call: Call, reply: Reply, path: Path) -> None:
    contents = await anyio.to_thread.run_sync(path.open, "rb")
    try:
        start, left = reply.span or (0, (await anyio.to_thread.run_sync(path.stat)).st_size)
        await call.start(reply.status, reply.headers, left)
        contents.seek(start)
        while piece := await anyio.to_thread.run_sync(contents.read, min(left, _READ_BYTES)):
            left -= len(piece)
            await call.write(piece, more=True)
        await call.write(b"")
    finally:
        await anyio.to_thread.run_sync(contents.close)


def _read(path: Path, span: tuple[int, int] | None) -> bytes:
    start, length = span or (0, -1)
    with path.open("rb") as contents:
        contents.seek(start)
        return contents.read(length)


async def _reset(call: Call, reply: Reply, fault: FaultRule) -> None:
    del reply, fault
    call.reset()
    await call.gone()


async def _truncate(call: Call, reply: Reply, fault: FaultRule) -> None:
    end = len(reply.body) // 2 if fault.bytes is None else min(fault.bytes, max(0, len(reply.body) - 1))
    await call.start(reply.status, reply.headers, len(reply.body))
    await call.write(reply.body[:end], more=True)
    call.close()
    await call.gone()


async def _hang(call: Call, reply: Reply, fault: FaultRule) -> None:
    if fault.wait is None:
        await call.gone()
        return
    with anyio.move_on_after(fault.wait):
        await call.gone()
        return
    await _whole(call, reply)


async def _drip(call: Call, reply: Reply, fault: FaultRule) -> None:
    step = max(1, fault.bytes or 1)
    await call.start(reply.status, reply.headers, len(reply.body))
    for start in range(0, len(reply.body), step):
        await call.write(reply.body[start : start + step], more=True)
        with anyio.move_on_after(fault.pause):
            await call.gone()
            return
    await call.write(b"")


async def _close(call: Call, reply: Reply, fault: FaultRule) -> None:
    del fault
    await _whole(call, reply)
    call.close()


async def _bad_json(call: Call, reply: Reply, fault: FaultRule) -> None:
    del fault
    await _whole(call, Reply(reply.status, reply.body[: len(reply.body) // 2], reply.headers))


async def _empty(call: Call, reply: Reply, fault: FaultRule) -> None:
    del fault
    await _whole(call, Reply(200, b"", reply.headers))


_Way: TypeAlias = Callable[[Call, Reply, FaultRule], Awaitable[None]]
_WAYS: Final[Mapping[str, _Way]] = {
    "reset": _reset,
    "truncate": _truncate,
    "hang": _hang,
    "drip": _drip,
    "close": _close,
    "bad-json": _bad_json,
    "empty": _empty,
}
