"""Where the processes of a server read what was agreed: proposals, agreements and reports."""

from __future__ import annotations

import json
from dataclasses import dataclass

from refusal_server.shared.database import Database


@dataclass(frozen=True, slots=True)
class Proposal:
    """A policy whose bundles every rank holds; proposals are numbered from 1.

    ``epoch`` is the reading epoch of requests under it; see the library's ``reading_epoch``. One
    that was ``withdrawn`` will not be agreed.
    """

    number: int
    version: str
    text: str
    epoch: int | None
    withdrawn: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """What a following process says of itself.

    ``prepared`` is the newest proposal that it can switch to at once. ``needed`` are the digests
    of bundles that its policies, present and prepared, and its requests use. ``refusal`` says why
    it cannot follow proposal ``refused``.
    """

    prepared: int = 0
    needed: frozenset[str] = frozenset()
    refused: int = 0
    refusal: str = ""


class Board:
    """One process's view of it; raises ``sqlite3.Error`` when the database cannot be used."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.define(
            "proposals (number INTEGER PRIMARY KEY, version TEXT, text TEXT, epoch INTEGER, "
            "withdrawn INTEGER, agreed INTEGER)"
        )
        database.define(
            "reports (place INTEGER PRIMARY KEY, prepared INTEGER, needed TEXT, "
            "refused INTEGER, refusal TEXT)"
        )
        database.define("wishes (place INTEGER PRIMARY KEY, count INTEGER)")

    def propose(self, version: str, text: str, epoch: int | None) -> int:
        """Propose a policy; its number. Of older ones only the agreed one stays."""
        with self._database.alone():
            before = self.newest()
            number = 1 if before is None else before.number + 1
            self._database.run("DELETE FROM proposals WHERE NOT agreed")
            self._database.run(
                "INSERT INTO proposals VALUES (?, ?, ?, ?, FALSE, FALSE)",
                (number, version, text, epoch),
            )
        return number

    def withdraw(self, number: int) -> None:
        """Have a proposal forgotten that some process cannot follow."""
        self._database.run("UPDATE proposals SET withdrawn = TRUE WHERE number = ?", (number,))

    def agree(self, number: int) -> None:
        """Make a proposal the policy of every request that begins from now on."""
        with self._database.alone():
            self._database.run("UPDATE proposals SET agreed = (number = ?)", (number,))

    def agreed(self) -> int:
        """The number that was agreed last; 0 before the first."""
        found = self._database.rows("SELECT number FROM proposals WHERE agreed")
        return int(found[0][0]) if found else 0

    def newest(self) -> Proposal | None:
        """The proposal with the highest number."""
        found = self._database.rows(
            "SELECT number, version, text, epoch, withdrawn FROM proposals "
            "ORDER BY number DESC LIMIT 1"
        )
        if not found:
            return None
        number, version, text, epoch, withdrawn = found[0]
        return Proposal(number, version, text, epoch, bool(withdrawn))

    def report(self, place: int, report: Report) -> None:
        """Say what the process at ``place`` has prepared and what it needs."""
        needed = json.dumps(sorted(report.needed))
        self._database.run(
            "REPLACE INTO reports VALUES (?, ?, ?, ?, ?)",
            (place, report.prepared, needed, report.refused, report.refusal),
        )

    def reports(self) -> dict[int, Report]:
        """What every following process has said last, by its place."""
        found = self._database.rows("SELECT * FROM reports")
        return {
            place: Report(prepared, frozenset(json.loads(needed)), refused, refusal)
            for place, prepared, needed, refused, refusal in found
        }

    def wish(self) -> None:
        """Ask the leading process to read the policy file again."""
        with self._database.alone():
            self._database.run(
                "INSERT INTO wishes VALUES (0, 1) ON CONFLICT DO UPDATE SET count = count + 1"
            )

    def wishes(self) -> int:
        """How often that was asked."""
        found = self._database.rows("SELECT count FROM wishes")
        return int(found[0][0]) if found else 0
