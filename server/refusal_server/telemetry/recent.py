"""The last requests, without prompts and answers, for an operator who looks right now."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from refusal_server.policy.policy_set import Arm


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True, slots=True)
class RecentRequest:
    """One request that has ended; ``key`` is the key's name.

    ``coefficient`` and ``risk`` are what the device measured, ``None`` where it measured nothing;
    ``rows_verified`` are the rows proven steered; ``seconds`` is the time from admission to the
    end.
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
