"""Notes every call of an admin route, also those without the right key."""

from __future__ import annotations

import json

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from refusal_server.events import AdminCalled, EventSink
from refusal_server.http.middleware.request_id import HEADER

PREFIX = "/admin/"
_MAX_PATH = 200


class AdminTrailMiddleware:
    """Tells the event sink once the answer is known."""

    def __init__(self, app: ASGIApp, events: EventSink) -> None:
        self.app = app
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            await self.app(scope, receive, send)
            return
        status, body = 500, b""

        async def watch(message: Message) -> None:
            nonlocal status, body
            if message["type"] == "http.response.start":
                status = message["status"]
            elif status >= 400:
                body += message.get("body", b"")
            await send(message)

        try:
            await self.app(scope, receive, watch)
        finally:
            request_id = dict(scope["headers"]).get(HEADER, b"").decode("latin-1")
            path = scope["path"][:_MAX_PATH]
            event = AdminCalled(request_id, scope["method"], path, status, _code(body))
            self._events.admin(event)


def _code(body: bytes) -> str | None:
    if not body:
        return None
    code = json.loads(body)["error"]["code"]
    return code if isinstance(code, str) else None
