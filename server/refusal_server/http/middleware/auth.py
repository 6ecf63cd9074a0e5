"""API keys, presented as bearer tokens; every path is closed unless listed as public."""

from __future__ import annotations

from collections.abc import Callable, Collection

from starlette.types import ASGIApp, Receive, Scope, Send

from refusal_server.access.wrong_keys import WrongKeys
from refusal_server.caller import ANYONE, Caller
from refusal_server.errors import ApiError
from refusal_server.events import Door
from refusal_server.http.middleware.request_id import HEADER


class AuthMiddleware:
    """Leaves the caller in ``scope["state"]``; looks at ``scope["path"]`` only, never at ``Host``.

    ``admit`` finds the holder of a token; it is asked on every request, so that a revoked key is
    one at once. A token that is nobody's is ``noted`` under ``door`` before it is refused.
    """

    def __init__(
        self,
        app: ASGIApp,
        admit: Callable[[bytes | None], Caller | None],
        wrong_keys: WrongKeys,
        door: Door,
        public: Collection[str] = (),
    ) -> None:
        self.app = app
        self._wrong_keys = wrong_keys
        self._door = door
        self._admit = admit
        self._public = frozenset(public)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        token = _bearer_token(scope)
        caller = ANYONE if scope["path"] in self._public else self._admit(token)
        if caller is not None:
            state = {**scope.get("state", {}), "caller": caller}
            await self.app({**scope, "state": state}, receive, send)
            return
        headers = {"www-authenticate": "Bearer"}
        if token and await self._many(scope):
            headers["connection"] = "close"
        refusal = ApiError(
            401,
            "A valid API key is needed: send it as `Authorization: Bearer <key>`.",
            headers=headers,
        )
        await refusal.response()(scope, receive, send)

    async def _many(self, scope: Scope) -> bool:
        request_id = dict(scope["headers"]).get(HEADER, b"").decode("latin-1")
        host = scope["client"][0] if scope.get("client") else None
        return await self._wrong_keys.noted(self._door, request_id, host)


def _bearer_token(scope: Scope) -> bytes | None:
    given = [value for name, value in scope["headers"] if name == b"authorization"]
    scheme, _, token = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
    return token.strip() if scheme.lower() == b"bearer" else None
