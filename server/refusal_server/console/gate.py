"""Guards the console: sessions, CSRF tokens, safe headers, and an event for each change."""

from __future__ import annotations

import json
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from refusal_server.console.session import COOKIE, Session, Sessions
from refusal_server.errors import ApiError
from refusal_server.events import AdminCalled, EventSink
from refusal_server.http.middleware.body_limit import BodyLimitMiddleware
from refusal_server.http.middleware.request_id import HEADER

PREFIX = "/console"
LOGIN = f"{PREFIX}/login"
CSRF_HEADER = "x-csrf-token"
_LOGIN_BYTES = 4096
_LOGIN_SECONDS = 10.0
_MAX_PATH = 200
_READING = ("GET", "HEAD", "OPTIONS")
_SAFETY = {
    "content-security-policy": (
        # Pictures, sounds and videos that the operator has chosen are shown from the page's memory.
        "default-src 'self'; img-src 'self' blob:; media-src 'self' blob:; object-src 'none'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class ConsoleMiddleware:
    """Passes paths below ``/console`` to an application of their own, with its own guards."""

    def __init__(self, app: ASGIApp, console: ASGIApp) -> None:
        self.app = app
        self._console = console

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        path = scope.get("path", "")
        ours = scope["type"] == "http" and (path == PREFIX or path.startswith(f"{PREFIX}/"))
        await (self._console if ours else self.app)(scope, receive, send)


class GateMiddleware:
    """Judges a request before its body is read; leaves the session in ``scope["state"]``.

    ``public`` are paths without a session. The body of a login is small, whoever sends it.
    """

    def __init__(
        self, app: ASGIApp, sessions: Sessions, events: EventSink, public: Collection[str]
    ) -> None:
        self.app = app
        self._login = BodyLimitMiddleware(app, _LOGIN_BYTES, _LOGIN_SECONDS, ())
        self._sessions = sessions
        self._events = events
        self._public = frozenset(public)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer = _Answer(send)
        try:
            await self._enter(scope, receive, answer)
        finally:
            if scope["method"] not in _READING:
                self._events.admin(_called(scope, answer))

    async def _enter(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        session = self._session(headers)
        if session is None and scope["path"] == PREFIX:
            await RedirectResponse(LOGIN, status_code=303)(scope, receive, send)
            return
        refusal = self._refusal(scope, headers, session)
        if refusal is not None:
            await refusal.response()(scope, receive, send)
            return
        scope = {**scope, "state": {**scope.get("state", {}), "session": session}}
        app = self._login if scope["path"] == LOGIN else self.app
        await app(scope, receive, send)

    def _session(self, headers: Headers) -> Session | None:
        return self._sessions.read(cookie_parser(headers.get("cookie", "")).get(COOKIE, ""))

    def _refusal(self, scope: Scope, headers: Headers, session: Session | None) -> ApiError | None:
        public = scope["path"] in self._public
        if session is None and not public:
            return ApiError(401, "Log in to the console first.", code="login_required")
        if scope["method"] in _READING:
            return None
        if not _from_here(headers):
            return ApiError(403, "The request comes from another site.", code="cross_site")
        token = headers.get(CSRF_HEADER, "")
        if not public and session is not None and not self._sessions.trusts(session, token):
            message = f"Send the page's token as `{CSRF_HEADER}`; reload the page to get it."
            return ApiError(403, message, code="invalid_csrf_token")
        return None


class _Answer:
    """Adds the headers of every answer, and keeps its status and error code for the event."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 500
        self._json = False
        self._body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            self._json = headers.get("content-type", "").startswith("application/json")
            for name, value in _SAFETY.items():
                headers.setdefault(name, value)
        elif self.status >= 400 and self._json:
            self._body += message.get("body", b"")
        await self._send(message)

    @property
    def code(self) -> str | None:
        """The error's code, if it was one of ours."""
        return str(json.loads(self._body)["error"]["code"]) if self._body else None


def _called(scope: Scope, answer: _Answer) -> AdminCalled:
    request_id = dict(scope["headers"]).get(HEADER, b"").decode("latin-1")
    path = scope["path"][:_MAX_PATH]
    return AdminCalled(request_id, scope["method"], path, answer.status, answer.code)


def _from_here(headers: Headers) -> bool:
    """Whether a browser made the request on this site; other clients carry no cookie unasked."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == headers.get("host")
