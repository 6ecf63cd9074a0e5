"""Receives a request's body within a size and a time, before anything parses it."""

from __future__ import annotations

from collections.abc import Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from refusal_server.errors import ApiError, bad_request
from refusal_server.http.wire.patience import patient

_CLOSE = {"connection": "close"}


class BodyLimitMiddleware:
    """413 from ``Content-Length`` or while streaming, 408 when too slow, 415 when not JSON."""

    def __init__(
        self, app: ASGIApp, max_bytes: int, seconds: float, json_paths: Collection[str]
    ) -> None:
        self.app = app
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._json_paths = frozenset(json_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self.app(scope, receive, send)
            return
        try:
            self._check_headers(scope)
            async with patient(self._seconds):
                body = await self._read(receive)
        except TimeoutError:
            refusal = ApiError(408, "The request body did not arrive in time.", headers=_CLOSE)
            await refusal.response()(scope, receive, send)
            return
        except ApiError as refusal:
            await refusal.response()(scope, receive, send)
            return
        if body is not None:
            await self.app(scope, _replay(body, receive), send)

    def _check_headers(self, scope: Scope) -> None:
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"0")
        if not length.isdigit():
            raise bad_request("The Content-Length header is not a number.")
        if int(length) > self._max_bytes:
            raise self._too_large()
        if headers.get(b"content-encoding", b"identity").strip().lower() not in (b"", b"identity"):
            raise ApiError(415, "Send the request body without a Content-Encoding.", headers=_CLOSE)
        if scope["method"] == "POST" and scope["path"] in self._json_paths:
            kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
            if kind != b"application/json":
                message = "Send the request body as `Content-Type: application/json`."
                raise ApiError(415, message, headers=_CLOSE)

    async def _read(self, receive: Receive) -> bytes | None:
        """The whole body, or ``None`` when the client went away."""
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if len(body) > self._max_bytes:
                raise self._too_large()
            if not message.get("more_body", False):
                return bytes(body)

    def _too_large(self) -> ApiError:
        message = f"The request body is larger than {self._max_bytes} bytes."
        return ApiError(413, message, headers=_CLOSE)


def _replay(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
