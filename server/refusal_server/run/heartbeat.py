"""Readiness is proven by an answer: the last caller's, or one that the server asks for itself."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from refusal_server.http.health import Health

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.5


class Heartbeat:
    """Asks for an answer when none was proven for ``interval`` seconds, and after errors.

    ``ask`` is one short request through the same admission as a caller's; it raises where no
    proven answer comes. What takes longer than ``patience`` seconds is no answer, unless a caller
    got one meanwhile: then the server is busy, not silent.
    """

    def __init__(
        self,
        health: Health,
        ask: Callable[[], Awaitable[object]],
        interval: float,
        patience: float,
    ) -> None:
        self._health = health
        self._ask = ask
        self._interval = interval
        self._patience = patience

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if self._due():
                await self.beat()

    async def beat(self) -> None:
        """One proof, or the doubt that there is one."""
        asked_at = time.monotonic()
        try:
            async with asyncio.timeout(self._patience):
                await self._ask()
        except Exception as error:
            if self._health.proven_at >= asked_at:
                return
            if not self._health.silent:
                logger.error("no proven answer, the server is not ready: %r", error)
            self._health.silent = True
        else:
            if self._health.silent:
                logger.info("answers are proven again")
            self._health.answered()

    def _due(self) -> bool:
        health = self._health
        if health.closed is not None:
            return False
        idle = time.monotonic() - health.proven_at >= self._interval
        return idle or health.doubted or health.silent
