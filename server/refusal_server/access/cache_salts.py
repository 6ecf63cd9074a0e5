"""Who shares whose prefixes in the engine's cache."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets

from refusal_server.caller import Caller


class CacheSalts:
    """Makes the salts that keep prefixes apart, from a secret that lives as long as the server.

    A caller's own salt counts within its tenant only, or within its key where it has no tenant:
    who knows the salt of another tenant does not reach that tenant's prefixes by it.
    """

    def __init__(self, secret: bytes | None = None) -> None:
        self._secret = secrets.token_bytes(32) if secret is None else secret

    def salt(self, caller: Caller, asked: str | None) -> str | None:
        """The salt for a request that asks for ``asked``; ``None`` where prefixes are shared."""
        if asked is None and not caller.own_cache:
            return None
        owner = ["key", caller.name] if caller.tenant is None else ["tenant", caller.tenant]
        place = json.dumps([*owner, asked])
        return hmac.new(self._secret, place.encode(), hashlib.sha256).hexdigest()
