"""One of the API processes of a server, as the process that starts them all makes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Member:
    """The process at ``place`` of ``count``; the one at 0 leads.

    ``folder`` is there for all of them and ends with the server. ``cache_secret`` is theirs alone.
    """

    place: int
    count: int
    folder: Path
    cache_secret: bytes

    @property
    def leads(self) -> bool:
        """Whether it brings policies into force, and has the ops port."""
        return self.place == 0

    @property
    def followers(self) -> range:
        """The places of all that do not lead."""
        return range(1, self.count)

    @property
    def database(self) -> Path:
        """The file of the database that they share."""
        return self.folder / "shared.sqlite"

    @property
    def audit_lock(self) -> Path:
        """The file that whoever writes an audit line locks."""
        return self.folder / "audit.lock"
