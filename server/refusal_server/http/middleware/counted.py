"""Counts every HTTP request by route, method and status, with few series whatever is asked for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from starlette.types import ASGIApp, Receive, Scope, Send

from refusal_server.http.middleware.sending import sending

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_OTHER = "other"
_LEFT = 499


class HttpCounter(Protocol):
    """The metric of HTTP requests."""

    def count_http(self, route: str, method: str, status: int) -> None:
        """Count one whose answer has begun."""


class RouteNames:
    """Paths as labels: the routes there are, and ``other`` for whatever else is asked for."""

    def __init__(self, paths: Iterable[str]) -> None:
        paths = set(paths)
        self._exact = {path for path in paths if "{" not in path}
        self._begins = {path.partition("{")[0]: path for path in paths if "{" in path}

    def name(self, path: str) -> str:
        """The route behind a path."""
        if path in self._exact:
            return path
        found = (route for start, route in self._begins.items() if path.startswith(start))
        return next(found, _OTHER)


class CountedMiddleware:
    """The outermost of a port, so that what the others turn away is counted too.

    499 stands for a caller who left before an answer had begun.
    """

    def __init__(self, app: ASGIApp, counter: HttpCounter, routes: Iterable[str]) -> None:
        self.app = app
        self._counter = counter
        self._names = RouteNames(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer, send = sending(scope, send)
        try:
            await self.app(scope, receive, send)
        finally:
            status = _LEFT if answer.status is None else answer.status
            method = scope["method"] if scope["method"] in _METHODS else _OTHER
            self._counter.count_http(self._names.name(scope["path"]), method, status)
