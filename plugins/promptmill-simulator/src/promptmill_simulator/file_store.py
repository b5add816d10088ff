"""Uploaded and produced files: their records in memory, their contents on disk."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import msgspec

from promptmill.clock import Clock
from promptmill_simulator.apierror import ApiError
from promptmill_simulator.ids import Ids


class StoredFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file. ``bytes`` is its size; times are seconds since the epoch."""

    id: str
    bytes: int
    created_at: int
    filename: str
    purpose: str
    path: Path
    expires_at: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """The API's file object."""
        shape: dict[str, Any] = {
            "id": self.id,
            "object": "file",
            "bytes": self.bytes,
            "created_at": self.created_at,
            "filename": self.filename,
            "purpose": self.purpose,
            "status": "processed",
        }
        if self.expires_at is not None:
            shape["expires_at"] = int(self.expires_at)
        return shape


class FileStore:
    """Keeps files until they are deleted or expire."""

    def __init__(self, directory: Path, ids: Ids, clock: Clock, speed: float) -> None:
        self._directory = directory
        self._ids = ids
        self._clock = clock
        self._speed = speed
        self._files: dict[str, StoredFile] = {}

    def new_path(self) -> Path:
        """A name on disk for contents that are about to be written."""
        return self._directory / self._ids.make("contents-")

    def add(self, path: Path, *, filename: str, purpose: str, lifetime: float | None = None) -> StoredFile:
        """Enter contents that have been written to ``path``. ``lifetime`` is in seconds before ``speed``."""
        now = self._clock.wall()
        stored = StoredFile(
            id=self._ids.make("file-"),
            bytes=path.stat().st_size,
            created_at=int(now),
            filename=filename,
            purpose=purpose,
            path=path,
            expires_at=None if lifetime is None else now + lifetime / self._speed,
        )
        self._files[stored.id] = stored
        return stored

    def get(self, file_id: str) -> StoredFile:
        """The file; raises ApiError (404) when it is unknown, deleted or expired."""
        stored = self._files.get(file_id)
        if stored is not None and stored.expires_at is not None and stored.expires_at <= self._clock.wall():
            self.delete(file_id)
            stored = None
        if stored is None:
            raise ApiError(404, f"No such File object: {file_id}", param="id")
        return stored

    def delete(self, file_id: str) -> None:
        """Drop a file. One that is not there is no error."""
        stored = self._files.pop(file_id, None)
        if stored is not None:
            # An open file cannot be removed on Windows; the directory goes when the simulator does.
            with contextlib.suppress(OSError):
                stored.path.unlink(missing_ok=True)

    def all(self) -> list[StoredFile]:
        """The files there are, oldest first."""
        now = self._clock.wall()
        for stored in [item for item in self._files.values() if item.expires_at is not None and item.expires_at <= now]:
            self.delete(stored.id)
        return list(self._files.values())
