"""Who is logged in: a signed cookie that only this process can have made."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from refusal_server.access.key_file import Keyring

COOKIE = "refusal_console"
LIFETIME_SECONDS = 8 * 3600


@dataclass(frozen=True, slots=True)
class Session:
    """One login: its random name and when it ends, in seconds since 1970."""

    name: str
    ends: int


class Sessions:
    """Opens, reads and closes sessions; a restart closes all, because it makes a new secret.

    ``keys`` holds the admin key and nothing else. Only sessions that were closed before their end
    are stored.
    """

    def __init__(self, keys: Keyring, clock: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._secret = secrets.token_bytes(32)
        self._clock = clock
        self._closed: dict[str, int] = {}

    def open(self, key: str) -> str | None:
        """The cookie of a new session; ``None`` unless ``key`` is the admin key."""
        if self._keys.admit(key.encode()) is None:
            return None
        content = f"{secrets.token_urlsafe(24)}.{int(self._clock()) + LIFETIME_SECONDS}"
        return f"{content}.{self._sign('session', content)}"

    def read(self, cookie: str) -> Session | None:
        """The session that ``cookie`` proves; ``None`` if forged, over or closed."""
        content, _, signature = cookie.rpartition(".")
        if not _same(signature, self._sign("session", content)):
            return None
        name, _, ends = content.rpartition(".")
        session = Session(name, int(ends))
        if session.ends <= self._clock() or name in self._closed:
            return None
        return session

    def close(self, session: Session) -> None:
        """End it now, for every copy of its cookie."""
        now = self._clock()
        self._closed = {name: ends for name, ends in self._closed.items() if ends > now}
        self._closed[session.name] = session.ends

    def token(self, session: Session) -> str:
        """The CSRF token: every change must carry it, and other sites cannot read it."""
        return self._sign("csrf", session.name)

    def trusts(self, session: Session, token: str) -> bool:
        """Whether ``token`` is this session's; in constant time."""
        return _same(token, self.token(session))

    def _sign(self, purpose: str, content: str) -> str:
        message = f"{purpose}\0{content}".encode()
        return hmac.new(self._secret, message, hashlib.sha256).hexdigest()


def _same(given: str, known: str) -> bool:
    return hmac.compare_digest(given.encode(), known.encode())
