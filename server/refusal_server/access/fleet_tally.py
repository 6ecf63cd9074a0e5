"""The tally of all replicas of a fleet, exact whichever of them counts."""

from __future__ import annotations

import asyncio
import secrets
from collections import defaultdict
from collections.abc import Coroutine
from functools import partial
from typing import Any

from refusal_server.access.fleet_store import FleetStore
from refusal_server.access.tally import Leave
from refusal_server.errors import ApiError

# A place that nobody has renewed for so long is free: whoever held it has died.
LEASE_SECONDS = 30.0
_RENEWALS = 3
_LAST_WORDS_SECONDS = 1.0

# Time is the store's, in seconds with a fraction; replicas need not agree on theirs.
_NOW = """
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1e6
"""
# KEYS: the bucket. ARGV: cost, and rate per minute. A bucket is full after a minute without use,
# and forgotten after two. Its time never goes back, whatever the clock does.
_TAKE = (
    _NOW
    + """
local cost, rate = tonumber(ARGV[1]), tonumber(ARGV[2])
local found = redis.call('HMGET', KEYS[1], 'level', 'at')
local level, wait = rate, 0
if found[1] then
  local at = tonumber(found[2])
  now = math.max(now, at)
  level = math.min(rate, tonumber(found[1]) + (now - at) * rate / 60)
end
if cost <= level then level = level - cost else wait = (cost - level) * 60 / rate end
local exact = '%.17g'
redis.call('HSET', KEYS[1], 'level', exact:format(level), 'at', exact:format(now))
redis.call('EXPIRE', KEYS[1], 120)
return exact:format(wait)
"""
)
# KEYS: the room, a set of places by the end of their leases. ARGV: a new place, how many there may
# be, and the seconds of a lease.
_ENTER = (
    _NOW
    + """
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.17g', now))
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
redis.call('ZADD', KEYS[1], string.format('%.17g', now + tonumber(ARGV[3])), ARGV[1])
redis.call('EXPIRE', KEYS[1], math.ceil(tonumber(ARGV[3])) + 1)
return 1
"""
)
# KEYS: the room. ARGV: the seconds of a lease, then the places that are held. One that the store
# has forgotten is held again, also beyond the limit: its request runs.
_RENEW = (
    _NOW
    + """
for place = 2, #ARGV do
  redis.call('ZADD', KEYS[1], string.format('%.17g', now + tonumber(ARGV[1])), ARGV[place])
end
redis.call('EXPIRE', KEYS[1], math.ceil(tonumber(ARGV[1])) + 1)
return 1
"""
)
_LEAVE = "return redis.call('ZREM', KEYS[1], ARGV[1])"


class FleetTally:
    """A ``Tally`` in a store that many servers use.

    A place is a lease of ``lease`` seconds, renewed while it is held: what a process held that has
    died is free after that time. What is asked of the store is asked to its end, also for a caller
    that has left, so that nothing is held for nobody.
    """

    def __init__(self, store: FleetStore, lease: float = LEASE_SECONDS) -> None:
        self._store = store
        self._lease = lease
        self._held: defaultdict[str, set[str]] = defaultdict(set)
        self._renewing: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def take(self, bucket: str, cost: float, rate: int) -> float:
        """As :meth:`Tally.take`."""
        asked = self._store.run(_TAKE, f"bucket:{bucket}", cost, rate)
        return float(await asyncio.shield(self._begin(asked)))

    async def enter(self, room: str, most: int) -> Leave | None:
        """As :meth:`Tally.enter`."""
        place = secrets.token_hex(8)
        asked = self._begin(self._store.run(_ENTER, f"room:{room}", place, most, self._lease))
        try:
            entered = await asyncio.shield(asked)
        except BaseException:
            # It may be held all the same: the answer was lost, or nobody waited for it.
            self._begin(self._give_back(room, place, after=asked))
            raise
        if not entered:
            return None
        self._held[room].add(place)
        if self._renewing is None or self._renewing.done():
            self._renewing = self._begin(self._renew())
        return partial(self._leave, room, place)

    async def close(self) -> None:
        """Give back what is being given back, for a moment, and close the connections."""
        if self._renewing is not None:
            self._renewing.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_LAST_WORDS_SECONDS)
        await self._store.close()

    def _leave(self, room: str, place: str) -> None:
        self._held[room].discard(place)
        if not self._held[room]:
            del self._held[room]
        self._begin(self._give_back(room, place))

    async def _give_back(
        self, room: str, place: str, after: asyncio.Task[Any] | None = None
    ) -> None:
        if after is not None:
            await asyncio.wait([after])
        try:
            await self._store.run(_LEAVE, f"room:{room}", place)
        except ApiError:
            # Its lease ends by itself.
            return

    async def _renew(self) -> None:
        while self._held:
            await asyncio.sleep(self._lease / _RENEWALS)
            for room, places in [(room, [*places]) for room, places in self._held.items()]:
                try:
                    await self._store.run(_RENEW, f"room:{room}", self._lease, *places)
                except ApiError:
                    # The next round tries again.
                    continue
                # Left meanwhile: the renewal may have come after the leaving.
                for place in {*places} - self._held.get(room, set()):
                    await self._give_back(room, place)

    def _begin(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # The store has logged it; whoever asked may have left.
            task.exception()
