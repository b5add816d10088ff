"""The tables of the journal, and how older ones are brought up to date."""

from __future__ import annotations

import sqlite3
from typing import Final

from promptmill.errors import StorageError

VERSION: Final = 2
"""Raise it with every change of the tables, and add the step from the version before to ``_STEPS``."""

_SHARD: Final = """
CREATE TABLE shard (
    tag TEXT PRIMARY KEY,
    provider TEXT NOT NULL,
    state TEXT NOT NULL,
    handle TEXT,
    requests INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    tokens INTEGER NOT NULL,
    operation TEXT NOT NULL,
    model TEXT
) WITHOUT ROWID;
"""

_TABLES: Final = (
    """
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE result (
    seq INTEGER PRIMARY KEY,
    idx INTEGER NOT NULL,
    id TEXT NOT NULL,
    digest BLOB NOT NULL,
    status TEXT NOT NULL,
    record BLOB,
    crc INTEGER NOT NULL,
    superseded INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX result_idx ON result (idx) WHERE NOT superseded;
CREATE TABLE payload (seq INTEGER PRIMARY KEY, record BLOB, body BLOB);
CREATE TABLE sink (name TEXT PRIMARY KEY, seq INTEGER NOT NULL, position BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE rejected (sink TEXT, seq INTEGER, reason TEXT NOT NULL, PRIMARY KEY (sink, seq)) WITHOUT ROWID;
"""
    + _SHARD
)

_STEPS: Final[dict[int, str]] = {1: _SHARD}
"""From a version to the statements that make the next one of it."""


def prepare(connection: sqlite3.Connection, path: str) -> None:
    """Create the tables, or bring them up to date.

    Raises:
        StorageError: a newer program wrote this journal.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise StorageError(
            f"the journal {path!r} has format {version}, and this promptmill knows {VERSION} at most",
            code="E0641",
            hint="upgrade promptmill; the journal was not touched and nothing was sent",
        )
    if version == VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    statements = _TABLES if version == 0 else "".join(_STEPS[step] for step in range(version, VERSION))
    for statement in statements.split(";"):
        if statement.strip():
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")
