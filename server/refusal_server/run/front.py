"""The ports: each has one application, behind uvicorn with our protocol."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from refusal_server.http.wire.protocol import deadline_protocol
from refusal_server.run.ops_thread import OtherLoop, ServingThread
from refusal_server.settings import Settings

_POLL_SECONDS = 0.1
_KEEP_ALIVE_SECONDS = 75
_CLOSE_SECONDS = 5.0


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the supervisor's."""
        yield


class Front:
    """One application on one port, which is bound already."""

    def __init__(self, app: ASGIApp, settings: Settings, listener: socket.socket) -> None:
        self.server = _Server(_uvicorn_config(app, settings))
        self.listener = listener
        self.serving: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Serve; returns when connections are accepted, or when that has failed."""
        self.serving = asyncio.create_task(self.server.serve(sockets=[self.listener]))
        while not self.server.started and not self.serving.done():
            await asyncio.sleep(_POLL_SECONDS)

    @property
    def closed(self) -> bool:
        """Whether nothing is served."""
        return self.serving is None or self.serving.done()

    async def close(self) -> None:
        """Stop serving; returns when the last connection has ended."""
        self.server.should_exit = True
        if self.serving is not None:
            await self.serving


class OpsFront(Front):
    """The ops port, on a loop of its own in which nothing but ``/live`` is ever worked on."""

    def __init__(self, app: ASGIApp, settings: Settings, listener: socket.socket) -> None:
        super().__init__(OtherLoop(app, asyncio.get_running_loop()), settings, listener)
        self._thread = ServingThread(lambda: self.server.serve(sockets=[self.listener]))

    async def open(self) -> None:
        """Serve; returns when connections are accepted, or when that has failed."""
        self._thread.start()
        while not self.server.started and not self.closed:
            await asyncio.sleep(_POLL_SECONDS)

    @property
    def closed(self) -> bool:
        """Whether nothing is served."""
        return self._thread.ended

    async def close(self) -> None:
        """Stop serving; returns when the last connection has ended, or seconds are over."""
        self.server.should_exit = True
        await self._thread.wait(_CLOSE_SECONDS)


def _uvicorn_config(app: ASGIApp, settings: Settings) -> uvicorn.Config:
    limits = settings.limits
    protocol: Any = deadline_protocol(
        limits.header_seconds, limits.write_seconds, limits.header_bytes
    )
    return uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=1,
    )
