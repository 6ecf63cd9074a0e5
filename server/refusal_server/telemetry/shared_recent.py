"""The last requests of all API processes of one server."""

from __future__ import annotations

import json
import logging
import sqlite3
from dataclasses import asdict

from refusal_server.shared.database import Database
from refusal_server.telemetry.recent import RecentRequest

logger = logging.getLogger(__name__)


class SharedRecentRequests:
    """A ring in the processes' database: the newest ``capacity`` entries, whoever has added them.

    A request never fails for it: an entry that cannot be written is logged and left out.
    """

    def __init__(self, database: Database, capacity: int) -> None:
        self._database = database
        self._capacity = capacity
        database.define("recent (number INTEGER PRIMARY KEY, entry TEXT)")

    def add(self, entry: RecentRequest) -> None:
        """Remember one more and forget the oldest."""
        text = json.dumps(asdict(entry))
        try:
            with self._database.alone():
                self._database.run("INSERT INTO recent (entry) VALUES (?)", (text,))
                self._database.run(
                    "DELETE FROM recent WHERE number <= (SELECT max(number) FROM recent) - ?",
                    (self._capacity,),
                )
        except sqlite3.Error as error:
            logger.error("a recent request was not remembered: %s", error)

    def newest(self, count: int) -> list[RecentRequest]:
        """At most ``count`` entries, the newest first."""
        found = self._database.rows(
            "SELECT entry FROM recent ORDER BY number DESC LIMIT ?", (count,)
        )
        return [RecentRequest(**json.loads(text)) for (text,) in found]
