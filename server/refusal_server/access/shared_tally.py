"""The tally of all API processes of one server, exact whichever of them counts."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from refusal_server.access.tally import Leave, taken, uncounted
from refusal_server.shared.database import Database

logger = logging.getLogger(__name__)


class SharedTally:
    """A ``Tally`` in the processes' database; their clock is the machine's monotonic one."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        database.define("buckets (name TEXT PRIMARY KEY, level REAL, at REAL) WITHOUT ROWID")
        database.define("rooms (name TEXT PRIMARY KEY, held INTEGER) WITHOUT ROWID")

    async def take(self, bucket: str, cost: float, rate: int) -> float:
        """As :meth:`Tally.take`."""
        with _reached(), self._database.alone():
            now = self._clock()
            found = self._database.rows("SELECT level, at FROM buckets WHERE name = ?", (bucket,))
            level, wait = taken(found[0] if found else (rate, now), cost, rate, now)
            self._database.run("REPLACE INTO buckets VALUES (?, ?, ?)", (bucket, level, now))
        return wait

    async def enter(self, room: str, most: int) -> Leave | None:
        """As :meth:`Tally.enter`."""
        with _reached(), self._database.alone():
            found = self._database.rows("SELECT held FROM rooms WHERE name = ?", (room,))
            held = found[0][0] if found else 0
            if held >= most:
                return None
            self._database.run("REPLACE INTO rooms VALUES (?, ?)", (room, held + 1))
        return partial(self._leave, room)

    async def close(self) -> None:
        """The database is everybody's, and ends with the server."""

    def _leave(self, room: str) -> None:
        """Give a place back; one that cannot be given back stays taken."""
        try:
            with self._database.alone():
                self._database.run("UPDATE rooms SET held = held - 1 WHERE name = ?", (room,))
                self._database.run("DELETE FROM rooms WHERE name = ? AND held < 1", (room,))
        except sqlite3.Error as error:
            logger.error("a place was not given back, and stays taken: %s", error)


@contextmanager
def _reached() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        logger.error("requests cannot be counted: %s", error)
        raise uncounted() from error
