"""The contract of batch providers, run on a fake, and proof that it catches what it is for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
import pytest

from promptmill import jsontext
from promptmill.batch import BatchLimits, BatchLine, BatchProvider, BatchState, BatchStatus, Shard
from promptmill.errors import BadOutput, Permanent, ProviderError, Transient
from promptmill.models import Request, Response, Usage
from promptmill.testing import BatchProviderContract
from promptmill.testing.anyprovider import CANARY

FAILED = (AssertionError, pytest.fail.Exception)


class Fake(BatchProvider):
    """Batches in memory, done at the third look; with one thing ``wrong``."""

    model = "fake"
    limits = BatchLimits(requests=100, bytes=10_000)

    def __init__(self, wrong: str = "") -> None:
        self.wrong = wrong
        self.shards: dict[str, Shard] = {}
        self.states: dict[str, BatchState] = {}
        self.looks = 0
        self.key = CANARY if wrong == "shows its key" else ""

    def encode(self, request: Request, wire_id: str) -> bytes:
        texts = [message.text for message in request.messages]
        if self.wrong == "changes the request":
            request.params["seen"] = True
        if self.wrong == "counts its lines":
            self.looks += 1
            texts.append(str(id(self)) + str(self.looks))
        if self.wrong == "raises what JSON raises":
            return jsontext.encode([wire_id, texts, request.params])
        if self.wrong == "splits its lines":
            return f"{wire_id} {texts}\n{texts}".encode()
        try:
            return jsontext.encode(["short" if self.wrong == "cuts ids" else wire_id, texts, request.params])
        except (TypeError, ValueError) as error:
            raise Permanent(str(error), code="bad_request") from error

    async def find(self, tag: str) -> BatchStatus | None:
        await self._sent()
        for handle, shard in self.shards.items():
            if shard.tag == tag or self.wrong == "finds any":
                return self._status(handle)
        return None

    async def create(self, shard: Shard) -> BatchStatus:
        await self._sent()
        handle = f"batch_{len(self.shards)}"
        if self.wrong != "forgets what it made":
            self.shards[handle] = shard
        self.states[handle] = "running"
        return self._status(handle)

    async def poll(self, handle: str) -> BatchStatus:
        await self._sent()
        if handle not in self.states:
            code = "not_found" if self.wrong == "does not know who is unknown" else "batch_not_found"
            raise Permanent("no such batch", code=code)
        self.looks += 1
        if self.looks >= 3 and self.states[handle] == "running":
            self.states[handle] = "completed"
        return self._status(handle)

    async def download(self, handle: str, directory: Path) -> Sequence[Path]:
        if self.wrong.endswith("half way"):
            (directory / "half").write_bytes(b"")
        await self._sent()
        self.looks += 1
        name = f"{handle}-{self.looks}" if self.wrong == "names files anew" else handle
        path = directory / f"{name}.jsonl"
        lines = self.shards[handle].path.read_bytes().split(b"\n")[:-1]
        path.write_bytes(b"\n".join(lines[1:] if self.wrong == "loses a line" else lines))
        if self.wrong == "leaves files":
            (directory / "part").write_bytes(b"")
        return [path]

    async def read(self, path: Path) -> AsyncIterator[Sequence[BatchLine]]:
        lines = [line for raw in path.read_bytes().split(b"\n") if (line := self._line(raw))]
        if lines:
            yield lines * 2 if self.wrong == "doubles lines" else lines

    def _line(self, raw: bytes) -> BatchLine | None:
        try:
            value = jsontext.decode(raw)
        except jsontext.BadJSON:
            if self.wrong == "cannot read rubbish":
                raise
            return None
        if not isinstance(value, list) or len(value) != 3:
            return None
        response = Response(text=str(value[1]), tier="batch", usage=Usage(input_tokens=1, output_tokens=1))
        if self.wrong == "bills realtime":
            response = msgspec.structs.replace(response, tier="realtime")
        return BatchLine(wire_id=value[0], outcome=BadOutput("no") if self.wrong == "answers none" else response)

    async def cancel(self, handle: str) -> None:
        await self._sent()
        if self.states[handle] == "running":
            self.states[handle] = "cancelled"
        elif self.wrong == "cancels what is over":
            raise Permanent("it is over", code="conflict")

    async def forget(self, handle: str) -> None:
        if self.wrong == "forgets once":
            del self.states[handle]

    async def _sent(self) -> None:
        if self.wrong.startswith("hangs"):
            await anyio.sleep_forever()
        if self.wrong in ("fails", "fails half way"):
            raise Transient("the server is away")
        if self.wrong == "fails with its key":
            raise Transient(f"the server refuses {CANARY}")
        if self.wrong == "fails oddly":
            raise OSError("no route")
        if self.wrong == "swallows the end":
            with anyio.CancelScope() as scope:
                scope.cancel()
                await anyio.sleep_forever()
            return
        await anyio.lowlevel.checkpoint()

    def _status(self, handle: str) -> BatchStatus:
        return BatchStatus(handle=handle, state=self.states[handle], raw_state=self.states[handle])


class TestFake(BatchProviderContract):
    def make_provider(self) -> BatchProvider:
        return Fake()

    def make_failing(self) -> BatchProvider:
        return Fake("fails")

    def make_hanging(self) -> BatchProvider:
        return Fake("hangs")


def contract_of(wrong: str, folder: Path) -> BatchProviderContract:
    class Contract(BatchProviderContract):
        def make_provider(self) -> BatchProvider:
            return Fake(wrong)

        def make_failing(self) -> BatchProvider:
            return Fake(wrong or "fails")

        def make_hanging(self) -> BatchProvider:
            return Fake(wrong or "hangs")

    contract = Contract()
    contract.folder = folder / (wrong or "right")
    contract.folder.mkdir()
    return contract


@pytest.mark.parametrize(
    ("wrong", "test"),
    [
        ("splits its lines", BatchProviderContract.test_a_request_is_one_line),
        ("cuts ids", BatchProviderContract.test_a_request_is_one_line),
        ("counts its lines", BatchProviderContract.test_a_request_is_one_line),
        ("changes the request", BatchProviderContract.test_a_request_is_one_line),
        ("raises what JSON raises", BatchProviderContract.test_a_request_is_refused_with_a_provider_error),
        ("forgets what it made", BatchProviderContract.test_there_and_back),
        ("loses a line", BatchProviderContract.test_there_and_back),
        ("doubles lines", BatchProviderContract.test_there_and_back),
        ("bills realtime", BatchProviderContract.test_there_and_back),
        ("answers none", BatchProviderContract.test_there_and_back),
        ("leaves files", BatchProviderContract.test_there_and_back),
        ("names files anew", BatchProviderContract.test_a_second_download_is_the_first),
        ("finds any", BatchProviderContract.test_an_unknown_tag_is_not_found),
        ("does not know who is unknown", BatchProviderContract.test_an_unknown_handle_says_so),
        ("doubles lines", BatchProviderContract.test_a_cancelled_batch_ends),
        ("cancels what is over", BatchProviderContract.test_a_cancel_after_the_end_changes_nothing),
        ("forgets once", BatchProviderContract.test_forgetting_twice_keeps_what_is_here),
        ("cannot read rubbish", BatchProviderContract.test_rubbish_in_results_is_no_error),
        ("fails with its key", BatchProviderContract.test_failures_are_provider_errors),
        ("fails oddly", BatchProviderContract.test_failures_are_provider_errors),
        ("fails half way", BatchProviderContract.test_failures_are_provider_errors),
        ("succeeds", BatchProviderContract.test_failures_are_provider_errors),
        ("swallows the end", BatchProviderContract.test_hanging_calls_can_be_cancelled),
        ("hangs half way", BatchProviderContract.test_hanging_calls_can_be_cancelled),
    ],
)
async def test_a_broken_provider_is_caught(
    wrong: str, test: Callable[[BatchProviderContract], Any], tmp_path: Path
) -> None:
    await test(contract_of("", tmp_path))
    with pytest.raises((*FAILED, ProviderError, OSError, TypeError, ValueError, KeyError)):
        await test(contract_of(wrong, tmp_path))


async def test_a_key_that_shows_is_caught(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    await contract_of("", tmp_path).test_shows_no_secret(caplog)
    with pytest.raises(AssertionError):
        await contract_of("shows its key", tmp_path).test_shows_no_secret(caplog)
