"""Turns what nobody caught into a 500 error object and keeps the connection usable."""

from __future__ import annotations

import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from refusal_server.errors import ApiError, internal_error

logger = logging.getLogger(__name__)


class CatchAllMiddleware:
    """The last resort; an exception after the first byte must still break the connection."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, watch)
        except Exception as error:
            if not isinstance(error, ApiError):
                logger.exception("unhandled error on %s %s", scope["method"], scope["path"])
            if started:
                raise
            answer = error if isinstance(error, ApiError) else internal_error()
            await answer.response()(scope, receive, send)
