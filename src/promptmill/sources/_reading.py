"""Sources that read files: a pass runs in worker threads, a bounded group of rows at a time."""

from __future__ import annotations

import asyncio
import codecs
import sys
import tempfile
import threading
from abc import abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final

import anyio
from anyio import to_thread
from pydantic import Field, field_validator

from promptmill.interfaces import Source
from promptmill.models import BadRow, Row
from promptmill.options import SourceOptions
from promptmill.sources._bytes import CHUNK_BYTES, STDIN, InputFile, content_hash, find_files, open_bytes
from promptmill.sources._encodings import Recoded
from promptmill.sources._formats import refuse_other_formats
from promptmill.sources._head import Peeked
from promptmill.sources._lines import MAX_LINE_BYTES

_GROUP_ROWS: Final = 512
_GROUP_BYTES: Final = 4 * 1024 * 1024
"""A group ends when it holds this many rows or when this many bytes were read for it."""

Sized = tuple[Row | BadRow, int]
"""A row and the bytes it was read from."""


class FileSource(Source):
    """Reads ``paths`` (names, globs, ``-``) one after the other. The files are chosen once, when it opens."""

    def __init__(
        self, paths: Sequence[str], base_dir: Path, *, max_line: int = MAX_LINE_BYTES, encoding: str | None = None
    ) -> None:
        self.max_line = max_line
        self._encoding = encoding
        self._paths = tuple(paths)
        self._base_dir = base_dir
        self._files: list[InputFile] = []
        self._spool: Path | None = None
        self._notes = Counter[str]()

    @abstractmethod
    def parse(self, stream: Peeked, name: str) -> Generator[Sized, None, None]:
        """The rows of one file. Called in worker threads."""

    def note(self, what: str) -> None:
        """Take note of something worth saying about a row; the same is said once, with the number of rows."""
        self._notes[what] += 1

    def notes(self) -> list[str]:
        return [what if count == 1 else f"{what} ({count:,} times)" for what, count in self._notes.items()]

    async def aopen(self) -> None:
        """Find the files, and copy standard input to a temporary file, so that it can be read again.

        Raises:
            InputError: a path names no file (E0301).
        """
        try:
            if STDIN in self._paths:
                await self._spool_stdin()
            self._files = await to_thread.run_sync(find_files, self._paths, self._base_dir, self._spool)
        except BaseException:
            await self.aclose()  # nobody closes what did not open
            raise

    async def aclose(self) -> None:
        spool, self._spool = self._spool, None
        if spool is not None:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(partial(spool.unlink, missing_ok=True))

    async def rows(self) -> AsyncIterator[Sequence[Row | BadRow]]:
        with closing(self._read()) as reading:
            while group := await to_thread.run_sync(_next_group, reading):
                yield group

    async def fingerprint(self) -> str:
        """Hash of the decompressed content of all files, and how the job says it is to be read; names and times do not
        count."""
        content = await to_thread.run_sync(content_hash, self._files)
        return " ".join([content, *self.ways()])

    def ways(self) -> list[str]:
        """What the job says of how the files are to be read: the same bytes may be other rows then."""
        return [] if self._encoding is None else [codecs.lookup(self._encoding).name]

    def _read(self) -> Generator[Sized, None, None]:
        self._notes.clear()
        for file in self._files:
            with open_bytes(file) as stream:
                start = Peeked(stream)
                refuse_other_formats(start.head, file.name, decoded=self._encoding is not None)
                if self._encoding is not None:
                    start = Peeked(Recoded(start, self._encoding, file.name))
                rows = 0
                for row in self.parse(start, file.name):
                    rows += 1
                    yield row
                if not rows:
                    what = "is empty" if start.whole and not start.head.strip() else "has no rows"
                    self.note(f"the input {file.name!r} {what}")

    async def _spool_stdin(self) -> None:
        descriptor, name = await to_thread.run_sync(partial(tempfile.mkstemp, prefix="promptmill-stdin-"))
        self._spool = Path(name)
        async with await anyio.open_file(descriptor, "wb") as spool:
            # Without the buffer, whose lock a thread left behind would still hold when the interpreter ends.
            stdin = getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)
            while chunk := await _unless_cancelled(partial(stdin.read, CHUNK_BYTES)):
                await spool.write(chunk)


class FileSourceOptions(SourceOptions):
    """Options all file sources have. ``suffixes`` are the endings that choose the source when the job names none."""

    suffixes: ClassVar[tuple[str, ...]] = ()

    path: str | list[str] = Field(description="A file, a glob, - for standard input, or a list of these.")
    max_line: int = Field(MAX_LINE_BYTES, ge=1, description="Longest row in bytes; longer ones become failed records.")

    encoding: str | None = Field(None, description="The encoding, such as cp1252 or utf-16; default: UTF-8.")

    @field_validator("encoding")
    @classmethod
    def _is_known(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                known = codecs.lookup(value)
            except LookupError:
                raise ValueError(f"there is no encoding {value!r}; known are e.g. cp1252, utf-16, shift_jis") from None
            if not known._is_text_encoding:
                raise ValueError(f"{value!r} is no encoding of text")
        return value

    @property
    def paths(self) -> list[str]:
        return [self.path] if isinstance(self.path, str) else self.path


def _next_group(reading: Iterator[Sized]) -> list[Row | BadRow]:
    group: list[Row | BadRow] = []
    size = 0
    for row, length in reading:
        group.append(row)
        size += length
        if len(group) >= _GROUP_ROWS or size >= _GROUP_BYTES:
            break
    return group


async def _unless_cancelled(read: Callable[[], bytes]) -> bytes:
    """Call ``read`` in a thread that nobody waits for, not even the end of the program: a read from a terminal or an
    idle pipe may never return."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[bytes] = loop.create_future()

    def settle(tell: Callable[[Any], None], value: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody wants to know
            loop.call_soon_threadsafe(lambda: None if outcome.done() else tell(value))

    def work() -> None:
        try:
            data = read()
        except Exception as error:  # noqa: BLE001 - raised again where it is waited for
            settle(outcome.set_exception, error)
        else:
            settle(outcome.set_result, data)

    threading.Thread(target=work, name="promptmill stdin", daemon=True).start()
    return await outcome
