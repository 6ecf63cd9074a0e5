"""Counts the work in flight and turns new work away while the server is not ready."""

from __future__ import annotations

from collections.abc import Collection

from starlette.types import ASGIApp, Receive, Scope, Send

from refusal_server.errors import turned_away
from refusal_server.http.health import Health


class DrainMiddleware:
    """Everything but the public paths is work."""

    def __init__(self, app: ASGIApp, health: Health, public: Collection[str]) -> None:
        self.app = app
        self._health = health
        self._public = frozenset(public)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http" or scope["path"] in self._public:
            await self.app(scope, receive, send)
            return
        reason = self._health.closed
        if reason is not None:
            await turned_away(reason).response()(scope, receive, send)
            return
        self._health.in_flight += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self._health.in_flight -= 1
