"""What has been spent and who holds a place: in this process, or for all of them at once."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Protocol

from refusal_server.errors import ApiError

_MINUTE = 60.0
UNCOUNTED = "limits_unavailable"
Leave = Callable[[], None]
"""Gives a place back; it is called once, neither waits nor raises."""


class Tally(Protocol):
    """Counts; each call is one step that nothing comes between.

    One that is kept elsewhere raises a 503 where it cannot be reached: what cannot be counted is
    not let through.
    """

    async def take(self, bucket: str, cost: float, rate: int) -> float:
        """Take ``cost`` from a bucket that holds ``rate`` and fills by as much in a minute.

        Returns 0, or takes nothing and returns the seconds to wait.
        """

    async def enter(self, room: str, most: int) -> Leave | None:
        """Hold one of the ``most`` places of ``room``; ``None`` where none is left."""

    async def close(self) -> None:
        """Let go of what is kept elsewhere."""


class LocalTally:
    """Counts in this process alone; ``clock`` is in seconds.

    Its length is the number of rooms in which somebody holds a place.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}
        self._held: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._held)

    async def take(self, bucket: str, cost: float, rate: int) -> float:
        """As :meth:`Tally.take`."""
        now = self._clock()
        level, wait = taken(self._buckets.get(bucket, (rate, now)), cost, rate, now)
        self._buckets[bucket] = level, now
        return wait

    async def enter(self, room: str, most: int) -> Leave | None:
        """As :meth:`Tally.enter`."""
        if self._held[room] >= most:
            return None
        self._held[room] += 1
        return partial(self._leave, room)

    async def close(self) -> None:
        """Nothing is kept elsewhere."""

    def _leave(self, room: str) -> None:
        self._held[room] -= 1
        if not self._held[room]:
            # Keys come and go; those that hold nothing are forgotten.
            del self._held[room]


def taken(bucket: tuple[float, float], cost: float, rate: int, now: float) -> tuple[float, float]:
    """Level of a bucket after ``cost`` was asked of it, and the seconds to wait (0: it was taken).

    ``bucket`` is the level and when it was that; it fills evenly up to one minute's ``rate``.
    """
    level, filled_at = bucket
    level = min(float(rate), level + (now - filled_at) * rate / _MINUTE)
    if cost <= level:
        return level - cost, 0.0
    return level, (cost - level) * _MINUTE / rate


def uncounted() -> ApiError:
    """The 503 for a request whose key has limits that cannot be counted now."""
    return ApiError(
        503,
        "The limits of this API key cannot be counted now; try again soon.",
        code=UNCOUNTED,
        headers={"retry-after": "1"},
    )
