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
    """``fellowship`` is ``None`` in a server of one process.

    ``tally`` counts what protects this server, ``fleet`` what keys may spend at all servers that
    use one store; without a store, at this one.
    """

    tally: Tally
    fleet: Tally
    salts: CacheSalts
    recent: Recent
    fellowship: Fellowship | None = None

    @classmethod
    def of(cls, member: Member | None, settings: Settings) -> Commons:
        """Those of one process; without a ``member`` it is the only one."""
        capacity = settings.recent_requests
        if member is None:
            alone = LocalTally()
            fleet = _fleet_tally(settings) or alone
            return cls(alone, fleet, CacheSalts(), RecentRequests(capacity))
        database = Database(member.database)
        shared = SharedTally(database)
        return cls(
            shared,
            _fleet_tally(settings) or shared,
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


def _fleet_tally(settings: Settings) -> Tally | None:
    if settings.store_url is None:
        return None
    # Here, not above: the client of the store comes with the extra `fleet`.
    from refusal_server.access.fleet_store import FleetStore
    from refusal_server.access.fleet_tally import FleetTally

    return FleetTally(FleetStore(settings.store_url, settings.store_password_file))
