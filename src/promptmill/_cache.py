"""Answers kept from run to run, by everything that makes them what they are: request, provider and its options."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from anyio import CapacityLimiter, to_thread

from promptmill._journal import prompt_digest
from promptmill.errors import StorageError
from promptmill.files import make_place
from promptmill.interfaces import Observer, Opened
from promptmill.jsontext import JSON, encode
from promptmill.models import Request, Result

_KEY_BYTES: Final = 16
_BUSY_SECONDS: Final = 30

T = TypeVar("T")

_decode = msgspec.json.Decoder(Result).decode


class ResponseCache(Opened, Observer):
    """An SQLite file that runs may share. Only good answers are kept. ``providers``: the identity of each, by name."""

    def __init__(self, path: Path, providers: Mapping[str, JSON]) -> None:
        self._path = path
        self._providers = {name: encode(identity) for name, identity in providers.items()}
        self._asked: dict[int, tuple[str, bytes]] = {}
        self._new: list[tuple[bytes, bytes]] = []
        self._limiter = CapacityLimiter(1)
        self._connection: sqlite3.Connection

    async def aopen(self) -> None:
        """Raises StorageError when the file cannot be used."""
        await self._in_thread(self._open)

    async def aclose(self) -> None:
        if hasattr(self, "_connection"):
            await self._in_thread(self._close)

    async def find(self, requests: Sequence[tuple[Request, str]]) -> dict[int, Result]:
        """The answers there are, by index. Each request comes with the name of the provider it would go to."""
        keys = {request.index: (provider, self._key(request, provider)) for request, provider in requests}
        known = await self._in_thread(self._look_up, {key for _, key in keys.values()})
        self._asked.update({index: asked for index, asked in keys.items() if asked[1] not in known})
        return {index: known[key] for index, (_, key) in keys.items() if key in known}

    def request_finished(self, result: Result) -> None:
        provider, key = self._asked.pop(result.index, ("", b""))
        # An answer of a fallback is not what the provider asked first would have said.
        if result.ok and provider == result.provider:
            self._new.append((key, encode(result)))

    async def save(self) -> None:
        """Write what has come since the last time."""
        new, self._new = self._new, []
        if new:
            await self._in_thread(self._write, new)

    def _key(self, request: Request, provider: str) -> bytes:
        return blake2b(prompt_digest(request) + self._providers[provider], digest_size=_KEY_BYTES).digest()

    async def _in_thread(self, function: Callable[..., T], *args: object) -> T:
        try:
            return await to_thread.run_sync(function, *args, limiter=self._limiter)
        except (sqlite3.Error, OSError) as error:
            raise StorageError(f"the cache {str(self._path)!r} failed: {error}", code="E0643") from error

    def _open(self) -> None:
        make_place(self._path)
        self._connection = sqlite3.connect(
            self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")  # a lost answer only costs asking again
        self._connection.execute("CREATE TABLE IF NOT EXISTS answer (key BLOB PRIMARY KEY, record BLOB NOT NULL)")

    def _look_up(self, keys: Collection[bytes]) -> dict[bytes, Result]:
        found = {}
        for key in keys:
            row = self._connection.execute("SELECT record FROM answer WHERE key = ?", (key,)).fetchone()
            if row is not None:
                found[key] = _decode(row[0])
        return found

    def _write(self, new: Sequence[tuple[bytes, bytes]]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        with self._connection:  # commits, or rolls back when the disk is full: an open transaction would bar the next
            self._connection.executemany("INSERT OR REPLACE INTO answer VALUES (?, ?)", new)

    def _close(self) -> None:
        try:
            if self._new:
                self._write(self._new)
        finally:
            self._connection.close()
