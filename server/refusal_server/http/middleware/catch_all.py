"""Turns what nobody caught into a 500 error object and keeps the connection usable."""

from __future__ import annotations

import logging

from starlette.types import ASGIApp, Receive, Scope, Send

from refusal_server.errors import ApiError, internal_error
from refusal_server.http.middleware.sending import sending

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
        sent, send = sending(scope, send)
        try:
            await self.app(scope, receive, send)
        except Exception as error:
            if not isinstance(error, ApiError):
                logger.exception("unhandled error on %s %s", scope["method"], scope["path"])
            if sent.status is not None:
                raise
            answer = error if isinstance(error, ApiError) else internal_error()
            await answer.response()(scope, receive, send)
