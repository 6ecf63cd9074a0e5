"""The policies in force, as the rest of a process sees them."""

from __future__ import annotations

from typing import Protocol

from refusal_server.events import PolicySource
from refusal_server.policy.policy_lease import PolicyLease
from refusal_server.policy.policy_set import PolicySet
from refusal_server.policy.remote.policy_poll import SourceGauges


class PolicyGauges(SourceGauges, Protocol):
    """Where operators see what is in force."""

    def policy_in_force(self, policies: PolicySet) -> None:
        """A policy came into force."""


class PolicyHolder(Protocol):
    """Holds what this process answers with."""

    @property
    def current(self) -> PolicySet:
        """What is in force."""

    def lease(self) -> PolicyLease:
        """The policies in force, for one request; it must be released when the request ends.

        Raises an ``ApiError`` where this process lacks what the server has agreed on.
        """

    async def start(self) -> None:
        """Return once the first policy is in force; raises when a rank does not follow."""

    async def reload(self, source: PolicySource = "file") -> bool:
        """Have the policy file read again."""

    async def run(self) -> None:
        """Keep up with changes until cancelled."""
