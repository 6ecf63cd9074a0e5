"""Gives every request a safe id: the caller's if it is plain, else a new one."""

from __future__ import annotations

import re
import uuid

from starlette.types import ASGIApp, Receive, Scope, Send

from refusal_server.http.middleware.sending import sending

HEADER = b"x-request-id"
_SAFE = re.compile(rb"[A-Za-z0-9_.\-]{1,128}")


class RequestIdMiddleware:
    """Rewrites the request's header, so that everything behind sees the same id; echoes it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = [value for name, value in scope["headers"] if name == HEADER]
        safe = len(given) == 1 and _SAFE.fullmatch(given[0]) is not None
        request_id = given[0] if safe else uuid.uuid4().hex.encode()
        others = [pair for pair in scope["headers"] if pair[0] != HEADER]
        scope = {**scope, "headers": [*others, (HEADER, request_id)]}
        answer, send = sending(scope, send)
        answer.header = HEADER, request_id
        await self.app(scope, receive, send)
