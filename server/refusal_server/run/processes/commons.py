"""What a process counts and remembers: by itself, or together with the others of its server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from refusal_server.access.cache_salts import CacheSalts
from refusal_server.access.shared_tally import SharedTally
from refusal_server.access.tally import LocalTally, Tally
from refusal_server.errors import NotReady
from refusal_server.policy.agreement.board import Board
from refusal_server.settings import Settings
from refusal_server.shared.database import Database
from refusal_server.shared.member import Member
from refusal_server.shared.roll import Roll
from refusal_server.telemetry.recent import Recent, RecentRequests
from refusal_server.telemetry.shared_recent import SharedRecentRequests


@dataclass(frozen=True, slots=True)
class Fellowship:
    """What only a server of several processes has."""

    member: Member
    board: Board
    roll: Roll


@dataclass(frozen=True, slots=True)
class Commons:
    """``fellowship`` is ``None`` in a server of one process."""

    tally: Tally
    salts: CacheSalts
    recent: Recent
    fellowship: Fellowship | None = None

    @classmethod
    def of(cls, member: Member | None, settings: Settings) -> Commons:
        """Those of one process; without a ``member`` it is the only one."""
        capacity = settings.recent_requests
        if member is None:
            return cls(LocalTally(), CacheSalts(), RecentRequests(capacity))
        database = Database(member.database)
        return cls(
            SharedTally(database),
            CacheSalts(member.cache_secret),
            SharedRecentRequests(database, capacity),
            Fellowship(member, Board(database), Roll(database, member.place, member.count)),
        )

    @property
    def audit_lock(self) -> Path | None:
        """What whoever writes an audit line locks; ``None`` where nobody else writes."""
        return None if self.fellowship is None else self.fellowship.member.audit_lock

    @property
    def roll(self) -> Roll | None:
        """Where the processes say how they are."""
        return None if self.fellowship is None else self.fellowship.roll

    def others(self) -> NotReady | None:
        """Why another process of this server is not ready; ``None`` when all are."""
        return None if self.roll is None else self.roll.others()
