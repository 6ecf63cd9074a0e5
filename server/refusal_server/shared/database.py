"""The database of one server's API processes: SQLite in WAL mode, in a folder of its own."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# A transaction takes microseconds; only a process that stands still in one is waited for so long.
PATIENCE_SECONDS = 5.0


class Database:
    """One process's connection; for one thread. Raises ``sqlite3.Error`` when it cannot be used.

    What is in it means nothing after the server has ended, so nothing waits for a disk.
    """

    def __init__(self, path: Path, patience: float = PATIENCE_SECONDS) -> None:
        self._connection = sqlite3.connect(path, timeout=patience, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = OFF")

    def define(self, table: str) -> None:
        """Make a table, unless another process has done so."""
        self._connection.execute(f"CREATE TABLE IF NOT EXISTS {table}")

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        """What a query finds, in one moment of the database."""
        return self._connection.execute(query, values).fetchall()

    def run(self, statement: str, values: Sequence[Any] = ()) -> None:
        """One statement, whole or not at all."""
        self._connection.execute(statement, values)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else writes during the block; an exception undoes what it has written."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")
