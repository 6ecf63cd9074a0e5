"""Which bundles the workers hold, and which of those are tested."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Protocol

from refusal_server.policy.policy_set import PolicySet
from refusal_steering.bundle import SteeringBundle

logger = logging.getLogger(__name__)


class BundleHost(Protocol):
    """All ranks at once; an error of one is an error of all."""

    async def load(self, bundle: SteeringBundle) -> None:
        """Put a bundle on every rank."""

    async def retire(self, keep: Collection[str]) -> None:
        """Free every bundle whose digest is not in ``keep`` once no request uses it."""

    async def acknowledge(self, policy_version: str, bundles: Collection[str]) -> None:
        """Have every rank confirm that it holds ``bundles`` for ``policy_version``."""


EngineCheck = Callable[[SteeringBundle], Awaitable[None]]
"""Tests a loaded bundle on the engine; raises a ``SteeringError`` if it does not steer."""


class PolicyRanks:
    """Loads bundles on every rank and frees them again."""

    def __init__(self, host: BundleHost, check: EngineCheck) -> None:
        self._host = host
        self._check = check
        self._loaded: set[str] = set()
        self._tested: set[str] = set()

    async def install(self, policies: PolicySet, keep: Collection[str]) -> None:
        """Load the bundles of ``policies`` on every rank, have them acknowledged, test new ones.

        Bundles that are neither theirs nor in ``keep`` are freed before, to make room.
        """
        if self._loaded:
            # A rank keeps what a request of its batch still used when it was told to free it.
            await self._retire({*keep, *policies.digests})
        for bundle in policies.bundles:
            self._loaded.add(bundle.digest)
            await self._host.load(bundle)
        await self._host.acknowledge(policies.version, sorted(policies.digests))
        for bundle in policies.bundles:
            if bundle.digest not in self._tested:
                await self._check(bundle)
                self._tested.add(bundle.digest)

    async def free(self, keep: Collection[str]) -> None:
        """Free all bundles but ``keep``; a failure is logged, and the next call tries again."""
        if self._loaded <= set(keep):
            return
        try:
            await self._retire(keep)
        except Exception as error:
            logger.warning("bundles that are not needed stay loaded for now: %s", error)

    async def _retire(self, keep: Collection[str]) -> None:
        await self._host.retire(keep)
        self._loaded &= set(keep)
        self._tested &= self._loaded
