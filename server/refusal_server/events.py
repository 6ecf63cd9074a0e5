"""What operators must be able to look up later: denied attempts, changed policies, admin calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

Door = Literal["api", "ops", "console"]
"""Where a key is shown: the callers' port, the admin routes, or the console's log-in."""
PolicySource = Literal["start", "file", "url", "signal", "admin", "console", "rollback"]


@dataclass(frozen=True, slots=True)
class Denied:
    """One request that was refused for what it asked of policy, strength, model or budget.

    ``key`` is the name of the API key, never the key; ``None`` where the server has no key file.
    ``policy`` and ``strength`` are as asked, ``policy`` only where it names one of the server's.
    ``code`` is the error's code, ``param`` the field at fault.
    """

    request_id: str
    key: str | None
    tenant: str | None
    policy: str | None
    strength: float | None
    status: int
    code: str
    param: str | None


@dataclass(frozen=True, slots=True)
class WrongKey:
    """Attempts with keys that are nobody's, at one door; the key itself is told to nobody.

    ``attempts`` counts those since the last such event of the door; ``request_id`` and ``client``,
    an address, are those of the last one.
    """

    request_id: str
    door: Door
    client: str | None
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class PolicyChanged:
    """A policy came into force on every rank; ``before`` is ``None`` at start.

    ``bundles`` are the digests that the new version uses, ``request_id`` that of the admin call
    that brought it.
    """

    before: str | None
    after: str
    source: PolicySource
    bundles: tuple[str, ...]
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class AdminCalled:
    """One call of an admin route, also one without the right key; ``code`` is its error's."""

    request_id: str
    method: str
    path: str
    status: int
    code: str | None = None


class EventSink(Protocol):
    """Where events go. A sink neither blocks nor raises: it is called while requests wait."""

    def denied(self, event: Denied) -> None:
        """A request was refused."""

    def wrong_key(self, event: WrongKey) -> None:
        """Keys were tried that are nobody's."""

    def policy_changed(self, event: PolicyChanged) -> None:
        """Another policy is in force."""

    def admin(self, event: AdminCalled) -> None:
        """An admin route was called and has answered."""


class NoEvents:
    """Keeps nothing."""

    def denied(self, event: Denied) -> None:
        """Nothing."""

    def wrong_key(self, event: WrongKey) -> None:
        """Nothing."""

    def policy_changed(self, event: PolicyChanged) -> None:
        """Nothing."""

    def admin(self, event: AdminCalled) -> None:
        """Nothing."""
