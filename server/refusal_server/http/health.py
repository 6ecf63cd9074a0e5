"""Whether this server may take work, and if not, why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from refusal_server.errors import NotReady


@dataclass(slots=True)
class Health:
    """Mutable state shared by the life cycle, the routes and the drain middleware.

    ``engine_failed`` is asked each time, so that a dead engine shows at once.
    """

    engine_failed: Callable[[], bool]
    started: bool = False
    draining: bool = False
    in_flight: int = field(default=0)

    @property
    def reason(self) -> NotReady | None:
        """Why the server is not ready; ``None`` when it is."""
        if self.engine_failed():
            return "engine_dead"
        if self.draining:
            return "shutting_down"
        return None if self.started else "starting"
