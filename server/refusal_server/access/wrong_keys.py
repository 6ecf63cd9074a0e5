"""Keys that are nobody's: counted, audited at a bounded rate, and answered slowly.

Good keys are admitted before any of this and never wait. Nothing is kept for each address: an
attacker has as many as it likes, and a proxy has one for everybody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Protocol

from refusal_server.access.tally import LocalTally, Tally
from refusal_server.errors import ApiError
from refusal_server.events import Door, EventSink, WrongKey

AUDIT_SECONDS = 10.0
DELAY_SECONDS = 1.0
# Mistakes a minute that cost no time: typing errors, and clients that were not told of a new key.
FREE = 10
_BUCKET = "wrong keys"
MOST_WAITING = 2048


class WrongKeyCounter(Protocol):
    """The metric of wrong keys."""

    def count_wrong_key(self, door: Door) -> None:
        """Count one."""


class WrongKeys:
    """All doors together; one line of the audit log for each door in ``AUDIT_SECONDS``.

    Without a ``tally`` this process counts for itself what costs no time.
    """

    def __init__(
        self,
        counter: WrongKeyCounter,
        events: EventSink,
        tally: Tally | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._counter = counter
        self._events = events
        self._tally = LocalTally() if tally is None else tally
        self._sleep = sleep
        self._waiting = 0
        self._unwritten: dict[Door, WrongKey | None] = {}

    async def noted(self, door: Door, request_id: str, client: str | None) -> bool:
        """Note one attempt, and wait where there were many; whether there were."""
        self._counter.count_wrong_key(door)
        self._audit(WrongKey(request_id, door, client))
        if await self._is_free():
            return False
        # What can be piled up is some 50 MB; connections that send nothing cost as much.
        if self._waiting < MOST_WAITING:
            self._waiting += 1
            try:
                await self._sleep(DELAY_SECONDS)
            finally:
                self._waiting -= 1
        return True

    async def _is_free(self) -> bool:
        try:
            return await self._tally.take(_BUCKET, 1, FREE) == 0
        except ApiError:
            return False

    def _audit(self, event: WrongKey) -> None:
        """Write the first attempt at once, and the sum of those that follow when it is time."""
        if event.door in self._unwritten:
            before = self._unwritten[event.door]
            attempts = 1 if before is None else before.attempts + 1
            self._unwritten[event.door] = replace(event, attempts=attempts)
        else:
            self._write(event)

    def _write(self, event: WrongKey) -> None:
        self._events.wrong_key(event)
        self._unwritten[event.door] = None
        asyncio.get_running_loop().call_later(AUDIT_SECONDS, self._catch_up, event.door)

    def _catch_up(self, door: Door) -> None:
        event = self._unwritten.pop(door, None)
        if event is not None:
            self._write(event)
