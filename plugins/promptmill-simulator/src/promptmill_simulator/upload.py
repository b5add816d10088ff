"""Reads a multipart upload and streams its file to disk; memory holds one chunk at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Final

import anyio.to_thread
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from promptmill_simulator.apierror import ApiError
from promptmill_simulator.call import Call

MAX_FILE_BYTES: Final = 512 * 1024 * 1024
"""Source: the API reference."""
_MAX_FIELD_BYTES: Final = 64 * 1024


class Upload:
    """The parts of a form: text fields, and the one called ``file``, whose contents go to ``path``."""

    def __init__(self, path: Path) -> None:
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self.path = path
        self._name = b""
        self._header = b""
        self._value = b""
        self._headers: dict[bytes, bytes] = {}
        self._part = ""
        self._text = bytearray()
        self._pending: list[bytes] = []
        self._size = 0
        self._ended = False

    async def receive(self, call: Call) -> None:
        """Read the whole body of ``call``.

        Raises:
            ApiError: the body is no form, lacks the file, or is too large.
            ClientGone: the client left.
        """
        kind, options = parse_options_header(call.header(b"content-type") or b"")
        if kind != b"multipart/form-data" or b"boundary" not in options:
            raise ApiError(400, "The request must be multipart/form-data with a boundary.")
        parser = MultipartParser(options[b"boundary"], self._callbacks())
        contents = await anyio.to_thread.run_sync(self.path.open, "wb")
        try:
            async for chunk in call.chunks():
                parser.write(chunk)
                await self._store(contents)
            parser.finalize()
        except FormParserError as error:
            raise ApiError(400, f"The multipart body cannot be read: {error}") from error
        finally:
            await anyio.to_thread.run_sync(contents.close)
        if not self._ended:
            raise ApiError(400, "The multipart body ends before its last part does.")

    async def _store(self, contents: BinaryIO) -> None:
        if self._pending:
            pending, self._pending = self._pending, []
            await anyio.to_thread.run_sync(contents.writelines, pending)

    def _callbacks(self) -> Any:
        steps: dict[str, Callable[..., None]] = {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_end,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._finish,
        }
        return steps

    def _begin(self) -> None:
        self._headers, self._text, self._part = {}, bytearray(), ""

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header = self._value = b""

    def _headers_end(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._part = options.get(b"name", b"").decode("utf-8", "replace")
        if self._part == "file":
            self.filename = options.get(b"filename", b"upload").decode("utf-8", "replace")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._part != "file":
            self._text += data[start:end]
            if len(self._text) > _MAX_FIELD_BYTES:
                raise ApiError(400, f"The form field '{self._part}' is longer than {_MAX_FIELD_BYTES} bytes.")
            return
        self._size += end - start
        if self._size > MAX_FILE_BYTES:
            raise ApiError(413, f"The file is larger than {MAX_FILE_BYTES} bytes.")
        self._pending.append(data[start:end])

    def _end(self) -> None:
        if self._part != "file":
            self.fields[self._part] = self._text.decode("utf-8", "replace")

    def _finish(self) -> None:
        self._ended = True
