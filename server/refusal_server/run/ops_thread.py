"""The ops port on an event loop of its own, so that liveness never waits for a request.

``/live`` is answered there and then. Everything else is carried over to the main loop, where the
state of the server lives.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LIVE = "/live"


class OtherLoop:
    """An application that runs on ``loop`` while its server runs on another."""

    def __init__(self, app: ASGIApp, loop: asyncio.AbstractEventLoop) -> None:
        self._app = app
        self._loop = loop

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "http" and scope["path"] == LIVE and scope["method"] in ("GET", "HEAD"):
            await JSONResponse({"status": "live"})(scope, receive, send)
            return
        here = asyncio.get_running_loop()
        work = self._app(scope, _carried(receive, here), _carried(send, here))
        task = asyncio.run_coroutine_threadsafe(_awaited(work), self._loop)
        await asyncio.wrap_future(task)


class ServingThread:
    """Runs ``serve`` on an event loop in a daemon thread of its own."""

    def __init__(self, serve: Callable[[], Awaitable[None]]) -> None:
        self._serve = serve
        self._thread = threading.Thread(target=self._run, name="ops-port", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether the thread has come to its end."""
        return not self._thread.is_alive()

    async def wait(self, seconds: float) -> None:
        """Wait for the end, at most so long."""
        await asyncio.to_thread(self._thread.join, seconds)

    def _run(self) -> None:
        asyncio.run(_awaited(self._serve()))


def _carried(
    call: Callable[..., Awaitable[Any]], home: asyncio.AbstractEventLoop
) -> Callable[..., Awaitable[Any]]:
    """``call`` of the loop ``home``, to be awaited on another."""

    async def carried(*arguments: Message) -> Any:
        return await asyncio.wrap_future(
            asyncio.run_coroutine_threadsafe(_awaited(call(*arguments)), home)
        )

    return carried


async def _awaited(work: Awaitable[Any]) -> Any:
    return await work
