"""Refuses requests whose framing two servers in a row could read differently."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from refusal_server.errors import ApiError, header_too_large

_VERSIONS = ("1.0", "1.1")
_CLOSE = {"connection": "close"}
_ONCE = (b"host", b"content-length", b"transfer-encoding", b"content-type")


class FramingMiddleware:
    """400 or 431, and the connection closes: nothing behind it is read as another request."""

    def __init__(self, app: ASGIApp, header_bytes: int) -> None:
        self.app = app
        self._header_bytes = header_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (self.app if refusal is None else refusal.response())(scope, receive, send)

    def _refusal(self, scope: Scope) -> ApiError | None:
        if sum(len(name) + len(value) for name, value in scope["headers"]) > self._header_bytes:
            return header_too_large()
        problem = _problem(scope)
        return None if problem is None else ApiError(400, problem, headers=_CLOSE)


def _problem(scope: Scope) -> str | None:
    if scope["http_version"] not in _VERSIONS:
        return "This server speaks HTTP/1.1."
    names = [name for name, _ in scope["headers"]]
    if b"host" not in names and scope["http_version"] == "1.1":
        return "The Host header is missing."
    if b"content-length" in names and b"transfer-encoding" in names:
        return "Content-Length and Transfer-Encoding exclude each other."
    if any(names.count(name) > 1 for name in _ONCE):
        return "A header that may appear once appears twice."
    return None
