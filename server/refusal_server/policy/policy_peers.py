"""Other processes that answer with the same engine, as the one that leads sees them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from refusal_server.events import PolicySource
from refusal_server.policy.policy_set import PolicySet

Reload = Callable[[PolicySource], Awaitable[object]]
Tidy = Callable[[], Awaitable[None]]


class Peers(Protocol):
    """The processes that follow this one's policy."""

    async def prepare(self, policies: PolicySet, *, first: bool = False) -> None:
        """Have every process ready to switch to ``policies``, which every rank holds.

        Raises a ``SteeringError`` when one is not; then nothing has changed for requests.
        """

    def switch(self) -> None:
        """Put what was prepared last into force for every request that begins from now on."""

    async def attend(self, reload: Reload, tidy: Tidy) -> None:
        """Reload when they wish it and tidy when they need less, until cancelled."""

    @property
    def needed(self) -> frozenset[str]:
        """Digests of bundles that they may still ask the ranks for."""


class NoPeers:
    """A server of one process."""

    needed: frozenset[str] = frozenset()

    async def prepare(self, policies: PolicySet, *, first: bool = False) -> None:
        """Nobody has to be asked."""

    def switch(self) -> None:
        """Nobody has to be told."""

    async def attend(self, reload: Reload, tidy: Tidy) -> None:
        """Nobody wishes or needs anything."""
