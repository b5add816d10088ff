"""The contract of a batch provider."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from secrets import token_hex
from typing import ClassVar, Final

import anyio
import pytest

from promptmill import jsontext
from promptmill.batch import MAX_WIRE_ID, BatchLine, BatchProvider, BatchStatus, Shard
from promptmill.errors import Permanent, ProviderError
from promptmill.models import Request, Response
from promptmill.testing.anyprovider import SHORT_S, AnyProviderContract, texts_of
from promptmill.testing.leaks import Leftovers
from promptmill.testing.providers import check_response
from promptmill.testing.records import request

_LINE_ENDS: Final = "one\ntwo\r\nthree\u2028four\u2029five\x85six\x0b"
_RUBBISH: Final = b'\n\xef\xbb\xbf\n{}\n[]\n"text"\nnull\n1e999\n\xff\xfe\x00\n{"custom_id": 1}\n{"broken": \n'


class BatchProviderContract(AnyProviderContract[BatchProvider]):
    """Subclass it, name it ``Test...``, set ``options_class`` and :meth:`settings`, or override :meth:`make_provider`.

    The server in :meth:`surroundings` must answer every request of a batch, within :attr:`batch_timeout`. Give
    :attr:`canary` to the provider as its secret where it takes one: the tests look for it in every text it shows.
    """

    lines: ClassVar[int] = 3
    """Requests in a batch."""
    poll_interval: ClassVar[float] = 0.01
    """Seconds between two looks at a batch."""
    batch_timeout: ClassVar[float] = 60.0
    """Seconds a batch may take."""

    def make_provider(self) -> BatchProvider:
        """A provider, not opened, that can answer :meth:`good_request`."""
        provider = self.build()
        assert isinstance(provider, BatchProvider)
        return provider

    def hostile_requests(self) -> Sequence[Request]:
        """Requests that it may send or refuse, as it likes."""
        return [
            request(_LINE_ENDS),
            request("\x00 \ud800"),
            Request(id="no messages"),
            request(params={"no": object()}),
            request(params={"not_a_number": float("nan")}),
        ]

    def unknown_handle(self) -> str:
        """A handle of the right form, of no batch."""
        return "batch_no-such-batch"

    def make_shard(self, provider: BatchProvider, count: int | None = None) -> Shard:
        """A shard of ``count`` good requests, with a tag never used before."""
        tag = f"contract-{token_hex(8)}"
        path = self.folder / f"{tag}.jsonl"
        requests = [self.good_request(number) for number in range(count or self.lines)]
        lines = [provider.encode(one, f"{tag}-{number}") for number, one in enumerate(requests)]
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        return Shard(
            tag=tag,
            path=path,
            requests=len(lines),
            bytes=path.stat().st_size,
            operation=requests[0].operation,
            model=requests[0].model or provider.model,
            tokens=sum(provider.estimate(one).input_tokens for one in requests),
        )

    async def _ended(self, provider: BatchProvider, handle: str) -> BatchStatus:
        with anyio.fail_after(self.batch_timeout):
            while True:
                status = await provider.poll(handle)
                assert status.handle == handle
                if status.is_final:
                    return status
                await anyio.sleep(self.poll_interval)

    async def _results(self, provider: BatchProvider, handle: str) -> Path:
        """A directory with the results of the batch."""
        directory = self.folder / "results"
        directory.mkdir()
        paths = await provider.download(handle, directory)
        assert sorted(paths) == sorted(directory.iterdir()), "the files named are not the files there"
        return directory

    async def test_says_what_a_batch_may_hold(self) -> None:
        async with self.surroundings():
            provider = self.make_provider()
        assert provider.tier == "batch"
        assert provider.operations
        limits = provider.limits
        assert min(limits.requests, limits.bytes, limits.cancel_s) > 0
        assert limits.window_s is None or limits.window_s > 0

    async def test_a_request_is_one_line(self) -> None:
        wire_id = "aZ09_-" + "x" * (MAX_WIRE_ID - 6)
        ours = [self.good_request(1), self.good_request(2)]
        before = jsontext.encode(ours)
        async with self._opened() as provider:
            first, second = (provider.encode(one, wire_id) for one in ours)
            assert b"\n" not in first + second
            assert wire_id.encode() in first
            assert first != second
            assert provider.encode(ours[0], "another") != first
        async with self._opened() as provider:
            assert provider.encode(ours[0], wire_id) == first, "the same request is another line the next time"
        assert jsontext.encode(ours) == before, "the request was changed"

    async def test_a_request_is_refused_with_a_provider_error(self) -> None:
        async with self._opened() as provider:
            for one in self.hostile_requests():
                try:
                    line = provider.encode(one, "w-1")
                except ProviderError as failure:
                    self._check_failure(failure)
                else:
                    assert b"\n" not in line
                    assert b"w-1" in line

    async def test_there_and_back(self) -> None:
        async with self._opened() as provider:
            shard = self.make_shard(provider)
            content = shard.path.read_bytes()
            created = await provider.create(shard)
            assert created.handle
            assert shard.path.read_bytes() == content
            found = await provider.find(shard.tag)
            assert found is not None, "the batch is not found by its tag"
            assert found.handle == created.handle
            status = await self._ended(provider, created.handle)
            assert status.state == "completed"
            assert status.failure is None
            lines = await read_all(provider, await self._results(provider, created.handle))
        assert sorted(line.wire_id for line in lines) == [f"{shard.tag}-{number}" for number in range(self.lines)]
        for line in lines:
            assert isinstance(line.outcome, Response), line.outcome
            assert line.outcome.tier == "batch"
            check_response(line.outcome)

    async def test_a_second_download_is_the_first(self) -> None:
        async with self._opened() as provider:
            handle = (await provider.create(self.make_shard(provider))).handle
            await self._ended(provider, handle)
            directory = await self._results(provider, handle)
            before = contents_of(directory)
            again = await provider.download(handle, directory)
            assert before
            assert sorted(path.name for path in again) == sorted(before)
            assert contents_of(directory) == before

    async def test_an_unknown_tag_is_not_found(self) -> None:
        async with self._opened() as provider:
            await provider.create(self.make_shard(provider, 1))
            assert await provider.find(f"contract-{token_hex(8)}") is None

    async def test_an_unknown_handle_says_so(self) -> None:
        async with self._opened() as provider:
            with pytest.raises(Permanent) as caught:
                await provider.poll(self.unknown_handle())
        assert caught.value.code == "batch_not_found"
        self._check_failure(caught.value)

    async def test_a_cancelled_batch_ends(self) -> None:
        """Whether anything of it was done is up to the server."""
        async with self._opened() as provider:
            shard = self.make_shard(provider)
            handle = (await provider.create(shard)).handle
            await provider.cancel(handle)
            await self._ended(provider, handle)
            lines = await read_all(provider, await self._results(provider, handle))
        counts = Counter(line.wire_id for line in lines)
        assert set(counts) <= {f"{shard.tag}-{number}" for number in range(self.lines)}
        assert set(counts.values()) <= {1}

    async def test_a_cancel_after_the_end_changes_nothing(self) -> None:
        async with self._opened() as provider:
            handle = (await provider.create(self.make_shard(provider))).handle
            await self._ended(provider, handle)
            await provider.cancel(handle)
            assert (await provider.poll(handle)).state == "completed"
            assert len(await read_all(provider, await self._results(provider, handle))) == self.lines

    async def test_forgetting_twice_keeps_what_is_here(self) -> None:
        async with self._opened() as provider:
            handle = (await provider.create(self.make_shard(provider))).handle
            await self._ended(provider, handle)
            directory = await self._results(provider, handle)
            await provider.forget(handle)
            await provider.forget(handle)
            assert len(await read_all(provider, directory)) == self.lines

    async def test_rubbish_in_results_is_no_error(self) -> None:
        path = self.folder / "rubbish"
        path.write_bytes(_RUBBISH)
        async with self._opened() as provider:
            async for group in provider.read(path):
                for line in group:
                    assert isinstance(line.wire_id, str)
                    assert isinstance(line.outcome, Response | ProviderError)

    async def test_failures_are_provider_errors(self) -> None:
        async with self.surroundings():
            leftovers = Leftovers()
            provider = self.make_failing() or pytest.skip("no failing provider to test with")
            async with provider:
                for name, call in self._calls(provider).items():
                    with anyio.fail_after(self.call_timeout):
                        try:
                            await call()
                        except ProviderError as failure:
                            self._check_failure(failure)
                        else:
                            pytest.fail(f"{name}() did not fail")
            await leftovers.none()
        assert not list((self.folder / "none").iterdir()), "files are left of a download that failed"

    async def test_hanging_calls_can_be_cancelled(self) -> None:
        async with self.surroundings():
            leftovers = Leftovers()
            provider = self.make_hanging() or pytest.skip("no hanging provider to test with")
            async with provider:
                for name, call in self._calls(provider).items():
                    with anyio.move_on_after(SHORT_S) as scope:
                        await call()
                    assert scope.cancelled_caught, f"{name}() ended by itself or swallowed the cancellation"
            await leftovers.none()
        assert not list((self.folder / "none").iterdir()), "files are left of a download that was cancelled"

    async def test_shows_no_secret(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(0)
        async with self._opened() as provider:
            shard = self.make_shard(provider)
            created = await provider.create(shard)
            status = await self._ended(provider, created.handle)
            shown = [*texts_of(provider), repr(created), repr(status), caplog.text, shard.path.read_text("utf-8")]
            for path in (await self._results(provider, created.handle)).iterdir():
                shown += [path.name, path.read_text("utf-8", "replace")]
        self._check_shown(shown)

    def _calls(self, provider: BatchProvider) -> Mapping[str, Callable[[], Awaitable[object]]]:
        """Every call that asks the server, by its name."""
        shard, handle, empty = self.make_shard(provider), self.unknown_handle(), self.folder / "none"
        empty.mkdir()
        return {
            "find": lambda: provider.find(shard.tag),
            "create": lambda: provider.create(shard),
            "poll": lambda: provider.poll(handle),
            "download": lambda: provider.download(handle, empty),
            "cancel": lambda: provider.cancel(handle),
        }


async def read_all(provider: BatchProvider, directory: Path) -> list[BatchLine]:
    """The lines of all files there. Asserts that they are the same when they are read again."""
    first, second = [await _read(provider, directory) for _ in range(2)]
    assert [line.wire_id for line in first] == [line.wire_id for line in second]
    return first


async def _read(provider: BatchProvider, directory: Path) -> list[BatchLine]:
    lines: list[BatchLine] = []
    for path in _files(directory):
        async for group in provider.read(path):
            assert group, "a group without lines"
            lines += group
    return lines


def _files(directory: Path) -> list[Path]:
    return sorted(directory.iterdir())


def contents_of(directory: Path) -> dict[str, bytes]:
    """The bytes of every file there, by its name."""
    return {path.name: path.read_bytes() for path in _files(directory)}
