"""The last requests and denials, without prompts and answers, for an operator who looks now."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from refusal_server.access.denials import Reason, reason_of
from refusal_server.events import AdminCalled, Denied, EventSink, PolicyChanged, WrongKey
from refusal_server.policy.policy_set import Arm


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True, slots=True)
class RecentRequest:
    """One request that has ended; ``key`` is the key's name.

    ``coefficient`` and ``risk`` are what the device measured, ``None`` where it measured nothing;
    ``rows_verified`` are the rows proven steered; ``seconds`` is the time from admission to the
    end, ``first_token`` that to the first event of a stream. ``error`` is the code of one that
    ended with an error.
    """

    request_id: str
    key: str | None
    tenant: str | None
    policy: str
    version: str
    strategy: str
    mode: str
    arm: Arm | None
    modality: str
    outcome: str
    coefficient: float | None
    risk: float | None
    rows_verified: int
    seconds: float
    dose: float | None = None
    first_token: float | None = None
    error: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    time: str = field(default_factory=_now)


class Recent(Protocol):
    """The newest entries, so many of them."""

    def add(self, entry: RecentRequest) -> None:
        """Remember one more and forget the oldest."""

    def newest(self, count: int) -> list[RecentRequest]:
        """At most ``count`` entries, the newest first."""


class RecentRequests:
    """A ring: the newest ``capacity`` entries of this process."""

    def __init__(self, capacity: int) -> None:
        self._entries: deque[RecentRequest] = deque(maxlen=capacity)

    def add(self, entry: RecentRequest) -> None:
        """Remember one more and forget the oldest."""
        self._entries.append(entry)

    def newest(self, count: int) -> list[RecentRequest]:
        """At most ``count`` entries, the newest first."""
        return list(self._entries)[::-1][:count]


@dataclass(frozen=True, slots=True)
class RecentDenial:
    """One denied request, and why."""

    event: Denied
    reason: Reason
    time: str = field(default_factory=_now)


class RecentDenials:
    """Passes events on, and remembers the newest ``capacity`` denials."""

    def __init__(self, capacity: int, onward: EventSink) -> None:
        self._entries: deque[RecentDenial] = deque(maxlen=capacity)
        self._onward = onward

    def newest(self, count: int) -> list[RecentDenial]:
        """At most ``count`` denials, the newest first."""
        return list(self._entries)[::-1][:count]

    def denied(self, event: Denied) -> None:
        """A request was refused."""
        self._entries.append(RecentDenial(event, reason_of(event.code)))
        self._onward.denied(event)

    def wrong_key(self, event: WrongKey) -> None:
        """Keys were tried that are nobody's."""
        self._onward.wrong_key(event)

    def policy_changed(self, event: PolicyChanged) -> None:
        """Another policy is in force."""
        self._onward.policy_changed(event)

    def admin(self, event: AdminCalled) -> None:
        """An admin route was called and has answered."""
        self._onward.admin(event)
