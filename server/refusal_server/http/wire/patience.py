"""A deadline for a client, in slices: what the server's own stalls take does not count."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

_SLICE_SECONDS = 0.25


class Patience:
    """Calls ``late`` once ``seconds`` of slices are over, unless it is ended before.

    A stall of the event loop, in which nothing that has arrived was read, costs a slice and not
    the time.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, late: Callable[[], object]) -> None:
        self._loop = loop
        self._late = late
        self._timer: asyncio.TimerHandle | None = None

    @property
    def running(self) -> bool:
        """Whether it will be late."""
        return self._timer is not None

    def begin(self, seconds: float) -> None:
        """Wait from now on."""
        self.end()
        self._wait_on(max(1, round(seconds / _SLICE_SECONDS)))

    def end(self) -> None:
        """Wait no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait_on(self, slices: int) -> None:
        if slices:
            self._timer = self._loop.call_later(_SLICE_SECONDS, self._wait_on, slices - 1)
        else:
            self._timer = None
            self._late()


@asynccontextmanager
async def patient(seconds: float) -> AsyncIterator[None]:
    """End the block with ``TimeoutError`` when ``seconds`` of slices are over."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as block:
        patience = Patience(loop, lambda: block.reschedule(loop.time()))
        patience.begin(seconds)
        try:
            yield
        finally:
            patience.end()
