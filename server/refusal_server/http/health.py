"""Whether this server may take work and has proven that it answers, and if not, why."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from refusal_server.errors import NotReady


@dataclass(slots=True)
class Health:
    """Mutable state shared by the life cycle, the routes and the drain middleware.

    ``engine_failed`` is asked each time, so that a dead engine shows at once. ``proven_at`` is
    when an answer was last proven, by :func:`time.monotonic`. ``others`` says why another process
    of the server is not ready.
    """

    engine_failed: Callable[[], bool]
    others: Callable[[], NotReady | None] = lambda: None
    started: bool = False
    draining: bool = False
    in_flight: int = field(default=0)
    proven_at: float = field(default=0.0)
    doubted: bool = False
    silent: bool = False

    @property
    def closed(self) -> NotReady | None:
        """Why no work is taken; ``None`` when it is."""
        if self.engine_failed():
            return "engine_dead"
        if self.draining:
            return "shutting_down"
        return None if self.started else "starting"

    @property
    def own(self) -> NotReady | None:
        """Why this process is not ready; ``None`` when it takes work and answers."""
        return self.closed or ("not_answering" if self.silent else None)

    @property
    def reason(self) -> NotReady | None:
        """Why the server is not ready; ``None`` when all of it takes work and answers.

        A server that does not answer still takes what comes: it is for the load balancer to send
        nothing, and a false alarm must not make an outage.
        """
        return self.own or self.others()

    def answered(self) -> None:
        """An answer has come from the engine with its proof."""
        self.proven_at = time.monotonic()
        self.doubted = self.silent = False

    def doubt(self) -> None:
        """A request has failed in a way that may be the server's fault."""
        self.doubted = True
