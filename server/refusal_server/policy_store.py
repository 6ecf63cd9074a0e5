"""The policy in force, and how a new one takes its place."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Protocol

from refusal_server.policy import PolicySet, load_policy_set
from refusal_steering.bundle import SteeringBundle

logger = logging.getLogger(__name__)


class BundleHost(Protocol):
    """The workers, as far as bundles are concerned."""

    async def load(self, bundle: SteeringBundle) -> None:
        """Put a bundle on every rank."""

    async def retire(self, keep: Collection[str]) -> None:
        """Free every bundle whose digest is not in ``keep`` once no request uses it."""

    async def acknowledge(self, policy_version: str, bundles: Collection[str]) -> None:
        """Have every rank confirm that it holds ``bundles`` for ``policy_version``."""


Check = Callable[[SteeringBundle], Awaitable[None]]


class PolicyGauges(Protocol):
    """Where operators see what is in force."""

    def policy_in_force(self, policies: PolicySet) -> None:
        """A policy came into force."""

    def reload_failed(self) -> None:
        """The file on disk could not be brought into force."""


class PolicyStore:
    """Holds one :class:`PolicySet`; a swap is all or nothing, and the last good one stays."""

    def __init__(
        self, path: Path, first: PolicySet, host: BundleHost, check: Check, gauges: PolicyGauges
    ) -> None:
        self._path = path
        self._host = host
        self._check = check
        self._gauges = gauges
        self._lock = asyncio.Lock()
        self._tested: set[str] = set()
        self.current = first

    async def start(self) -> None:
        """Bring the first policy into force; raises when a rank does not follow."""
        async with self._lock:
            await self._install(self.current)
            self._gauges.policy_in_force(self.current)

    async def reload(self) -> bool:
        """Read the file again; on any error log it, keep what is in force, return ``False``."""
        async with self._lock:
            try:
                found = await asyncio.to_thread(load_policy_set, self._path)
                if found.version != self.current.version:
                    # Not after the swap: a request may have chosen the old policy and not have
                    # reached the engine yet. By the next reload it has.
                    await self._retire_all_but_current()
                    await self._install(found)
                self._gauges.policy_in_force(self.current)
            except Exception as error:
                logger.error("policy not reloaded, %s stays: %s", self.current.version, error)
                self._gauges.reload_failed()
                return False
        logger.info("policy %s is in force", self.current.version)
        return True

    async def _retire_all_but_current(self) -> None:
        await self._host.retire([bundle.digest for bundle in self.current.bundles])

    async def _install(self, policies: PolicySet) -> None:
        for bundle in policies.bundles:
            await self._host.load(bundle)
        digests = [bundle.digest for bundle in policies.bundles]
        await self._host.acknowledge(policies.version, digests)
        for bundle in policies.bundles:
            if bundle.digest not in self._tested:
                await self._check(bundle)
                self._tested.add(bundle.digest)
        self.current = policies
        self._tested &= set(digests)
