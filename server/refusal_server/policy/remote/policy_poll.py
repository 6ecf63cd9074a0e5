"""Follows the policy of a source: asks again and again, and takes over what has changed."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from refusal_server.policy.remote.policy_url import Fetched, PolicyUrl

logger = logging.getLogger(__name__)

# Bundles may arrive after the policy that names them; a canary is not run at every poll.
RETRY_SECONDS = 60.0


class SourceGauges(Protocol):
    """Where operators see whether the source is followed."""

    def source_followed(self) -> None:
        """The source has answered, and what it holds is in force."""

    def reload_failed(self) -> None:
        """What is in force is not, or not known to be, what the file or the source holds."""


class PolicyPoll:
    """Has ``take`` bring what ``url`` holds into force, which raises where that cannot be.

    A text that was refused is tried again after :data:`RETRY_SECONDS`, another one at once.
    ``problem`` says why the source is not followed now, ``None`` where it is; a change of it is
    logged once. ``followed_at`` is when it was followed last, in seconds since the epoch.
    """

    def __init__(
        self, url: PolicyUrl, take: Callable[[str], Awaitable[None]], gauges: SourceGauges
    ) -> None:
        self._url = url
        self._take = take
        self._gauges = gauges
        self._lock = asyncio.Lock()
        self._held: Fetched | None = None
        self._taken = False
        self._tried = -math.inf
        self._refusal = ""
        self.problem: str | None = None
        self.followed_at: float | None = None

    @property
    def url(self) -> str:
        """Whom it asks, without the query."""
        return self._url.shown

    async def run(self) -> None:
        """Ask until cancelled; a fleet that started in one moment does not ask in one."""
        while True:
            await self.look()
            await asyncio.sleep(self._url.poll_seconds * random.uniform(0.9, 1.1))

    async def look(self, *, again: bool = False) -> bool:
        """Ask once; whether what the source holds is in force now. Raises nothing.

        With ``again``, a text that was refused is tried again at once.
        """
        async with self._lock:
            try:
                await self._follow(again)
            except Exception as error:
                self._gauges.reload_failed()
                if self.problem != str(error):
                    self.problem = str(error)
                    logger.error("the policy in force stays: %s", error)
                return False
            if self.problem is not None:
                logger.info("the policy's source %s is followed again", self.url)
            self.problem = None
            self.followed_at = time.time()
            self._gauges.source_followed()
            return True

    async def _follow(self, again: bool) -> None:
        found = await self._url.fetch(None if self._held is None else self._held.tag)
        if found is not None:
            if self._held is None or found.text != self._held.text:
                self._taken, self._tried = False, -math.inf
            self._held = found
        assert self._held is not None
        if self._taken:
            return
        if not again and time.monotonic() - self._tried < RETRY_SECONDS:
            raise _Refused(self._refusal)
        self._tried = time.monotonic()
        try:
            await self._take(self._held.text)
        except Exception as error:
            self._refusal = str(error)
            raise
        self._taken = True


class _Refused(Exception):
    """What the source holds was refused before, and is not tried again yet."""
