"""Who of a server's API processes is well: each says so of itself, all can read it."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable

from refusal_server.errors import NotReady
from refusal_server.shared.database import Database

logger = logging.getLogger(__name__)

# A process says how it is about once a second; one that stands still says nothing.
SILENT_SECONDS = 15.0
_SAY_SECONDS = 0.5


class Roll:
    """The roll of ``count`` processes; ``place`` is this one's."""

    def __init__(
        self,
        database: Database,
        place: int,
        count: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._place = place
        self._count = count
        self._clock = clock
        database.define("roll (place INTEGER PRIMARY KEY, reason TEXT, at REAL)")

    @property
    def leads(self) -> bool:
        """Whether this process speaks for the server."""
        return self._place == 0

    async def keep(self, reason: Callable[[], NotReady | None]) -> None:
        """Say how this process is, again and again, until cancelled."""
        while True:
            self.answer(reason())
            await asyncio.sleep(_SAY_SECONDS)

    def answer(self, reason: NotReady | None) -> None:
        """Say why this process is not ready, ``None`` when it is; never raises."""
        try:
            values = (self._place, reason, self._clock())
            self._database.run("REPLACE INTO roll VALUES (?, ?, ?)", values)
        except sqlite3.Error as error:
            logger.error("this process could not say how it is: %s", error)

    def others(self) -> NotReady | None:
        """Why another process is not ready; ``None`` when all are."""
        try:
            found = self._database.rows(
                "SELECT reason, at FROM roll WHERE place != ? ORDER BY place", (self._place,)
            )
        except sqlite3.Error as error:
            logger.error("how other processes are cannot be read: %s", error)
            return "not_answering"
        if len(found) < self._count - 1:
            return "starting"
        now = self._clock()
        for reason, at in found:
            if reason is not None:
                told: NotReady = reason
                return told
            if now - at > SILENT_SECONDS:
                return "not_answering"
        return None
