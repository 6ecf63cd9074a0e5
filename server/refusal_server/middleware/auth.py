"""One API key, presented as a bearer token; every path is closed unless listed as public."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection

from starlette.types import ASGIApp, Receive, Scope, Send

from refusal_server.errors import ApiError


class AuthMiddleware:
    """Compares digests in constant time; looks at ``scope["path"]`` only, never at ``Host``."""

    def __init__(self, app: ASGIApp, key: str | None, public: Collection[str]) -> None:
        self.app = app
        self._digest = None if key is None else hashlib.sha256(key.encode()).digest()
        self._public = frozenset(public)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "lifespan" or self._admits(scope):
            await self.app(scope, receive, send)
            return
        refusal = ApiError(
            401,
            "A valid API key is needed: send it as `Authorization: Bearer <key>`.",
            headers={"www-authenticate": "Bearer"},
        )
        await refusal.response()(scope, receive, send)

    def _admits(self, scope: Scope) -> bool:
        if self._digest is None or scope["path"] in self._public:
            return True
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        scheme, _, token = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        found = hashlib.sha256(token.strip()).digest()
        return hmac.compare_digest(found, self._digest) and scheme.lower() == b"bearer"
