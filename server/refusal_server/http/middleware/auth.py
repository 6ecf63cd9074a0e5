"""API keys, presented as bearer tokens; every path is closed unless listed as public."""

from __future__ import annotations

from collections.abc import Callable, Collection

from starlette.types import ASGIApp, Receive, Scope, Send

from refusal_server.caller import ANYONE, Caller
from refusal_server.errors import ApiError


class AuthMiddleware:
    """Leaves the caller in ``scope["state"]``; looks at ``scope["path"]`` only, never at ``Host``.

    ``admit`` finds the holder of a token; it is asked on every request, so that a revoked key is
    one at once.
    """

    def __init__(
        self,
        app: ASGIApp,
        admit: Callable[[bytes | None], Caller | None],
        public: Collection[str] = (),
    ) -> None:
        self.app = app
        self._admit = admit
        self._public = frozenset(public)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        caller = self._caller(scope)
        if caller is not None:
            state = {**scope.get("state", {}), "caller": caller}
            await self.app({**scope, "state": state}, receive, send)
            return
        refusal = ApiError(
            401,
            "A valid API key is needed: send it as `Authorization: Bearer <key>`.",
            headers={"www-authenticate": "Bearer"},
        )
        await refusal.response()(scope, receive, send)

    def _caller(self, scope: Scope) -> Caller | None:
        if scope["path"] in self._public:
            return ANYONE
        return self._admit(_bearer_token(scope))


def _bearer_token(scope: Scope) -> bytes | None:
    given = [value for name, value in scope["headers"] if name == b"authorization"]
    scheme, _, token = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
    return token.strip() if scheme.lower() == b"bearer" else None
