"""The tally of all API processes of one server, exact whichever of them counts."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from refusal_server.access.tally import taken
from refusal_server.errors import ApiError
from refusal_server.shared.database import Database

logger = logging.getLogger(__name__)


class SharedTally:
    """A ``Tally`` in the processes' database; their clock is the machine's monotonic one."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        database.define("buckets (name TEXT PRIMARY KEY, level REAL, at REAL) WITHOUT ROWID")
        database.define("rooms (name TEXT PRIMARY KEY, held INTEGER) WITHOUT ROWID")

    def take(self, bucket: str, cost: float, rate: int) -> float:
        """As :meth:`Tally.take`."""
        with _reached(), self._database.alone():
            now = self._clock()
            found = self._database.rows("SELECT level, at FROM buckets WHERE name = ?", (bucket,))
            level, wait = taken(found[0] if found else (rate, now), cost, rate, now)
            self._database.run("REPLACE INTO buckets VALUES (?, ?, ?)", (bucket, level, now))
        return wait

    def enter(self, room: str, most: int) -> bool:
        """As :meth:`Tally.enter`."""
        with _reached(), self._database.alone():
            found = self._database.rows("SELECT held FROM rooms WHERE name = ?", (room,))
            held = found[0][0] if found else 0
            if held >= most:
                return False
            self._database.run("REPLACE INTO rooms VALUES (?, ?)", (room, held + 1))
        return True

    def leave(self, room: str) -> None:
        """As :meth:`Tally.leave`; a place that cannot be given back stays taken."""
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


def uncounted() -> ApiError:
    """The 503 for a request whose key has limits that cannot be counted now."""
    return ApiError(
        503,
        "The limits of this API key cannot be counted now; try again soon.",
        code="limits_unavailable",
        headers={"retry-after": "1"},
    )
