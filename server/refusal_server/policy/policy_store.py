"""The policy in force, and how a new one takes its place."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Protocol
from weakref import WeakValueDictionary

from refusal_server.errors import ApiError
from refusal_server.events import EventSink, NoEvents, PolicyChanged, PolicySource
from refusal_server.files.yaml_file import FileError
from refusal_server.policy.policy_history import PolicyHistory
from refusal_server.policy.policy_set import (
    Policy,
    PolicySet,
    load_policy_set,
    parse_policy_set,
)
from refusal_server.policy.policy_source import PolicySourceFile
from refusal_steering.bundle import SteeringBundle
from refusal_steering.errors import SteeringError

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
Approve = Callable[[PolicySet], None]


class PolicyGauges(Protocol):
    """Where operators see what is in force."""

    def policy_in_force(self, policies: PolicySet) -> None:
        """A policy came into force."""

    def reload_failed(self) -> None:
        """The file on disk could not be brought into force."""


def _approve_all(_: PolicySet) -> None:
    """Nothing to hold a policy against."""


class PolicyStore:
    """Holds one :class:`PolicySet`; a swap is all or nothing, and the last good one stays.

    ``check`` tests a bundle on the engine. ``approve`` raises for a policy that cannot fit the
    served model, before any rank hears of it.
    """

    def __init__(
        self,
        path: Path,
        first: PolicySet,
        host: BundleHost,
        check: Check,
        gauges: PolicyGauges,
        *,
        approve: Approve = _approve_all,
        events: EventSink | None = None,
        history_size: int = 0,
    ) -> None:
        self._file = PolicySourceFile(path)
        self._host = host
        self._check = check
        self._gauges = gauges
        self._approve = approve
        self._events = events or NoEvents()
        self._lock = asyncio.Lock()
        self._tested: set[str] = set()
        # Policies of former versions for as long as a request holds them: it may be queued, or wait
        # for its risk pass, and the workers do not know of it yet.
        self._former: WeakValueDictionary[int, Policy] = WeakValueDictionary()
        self.path = path
        self.history = PolicyHistory(path.with_name(path.name + ".history"), history_size)
        self.current = first

    async def start(self) -> None:
        """Bring the first policy into force; raises when a rank does not follow."""
        async with self._lock:
            self._approve(self.current)
            await self._install(self.current)
            self._in_force(None, "start")

    async def reload(self, source: PolicySource = "file") -> bool:
        """Read the file again; on any error log it, keep what is in force, return ``False``."""
        async with self._lock:
            try:
                await self._change_to(await self._read(load_policy_set, self.path), source)
            except Exception as error:
                logger.error("policy not reloaded, %s stays: %s", self.current.version, error)
                self._gauges.reload_failed()
                return False
        logger.info("policy %s is in force", self.current.version)
        return True

    async def judge(self, text: str) -> PolicySet:
        """What ``text`` would be in force as, without applying it; raises a 400."""
        try:
            return await self._read(parse_policy_set, text, self.path)
        except (FileError, SteeringError) as error:
            raise ApiError(400, str(error), code="invalid_policy") from error

    async def exchange(
        self, text: str, expected: str, source: PolicySource = "admin", request_id: str = ""
    ) -> PolicySet:
        """Make ``text`` the policy file and bring it into force on every rank.

        Raises a 412 unless ``expected`` is the version in force, a 400 when ``text`` is no policy,
        a 409 when the file cannot be written or a rank does not follow; then the old file is back.
        """
        async with self._lock:
            self.require(expected)
            found = await self.judge(text)
            await self._exchange(found, source, request_id)
            return found

    async def roll_back(self, expected: str | None, request_id: str = "") -> PolicySet:
        """Return to the version before, as :meth:`exchange`; a 409 when there is none."""
        async with self._lock:
            if expected is not None:
                self.require(expected)
            past = self.history.last
            if past is None:
                raise _conflict("There is no earlier policy to return to.", "no_history")
            found = await self.judge(past.text)
            if found.version != past.version:
                raise _conflict(
                    f"The bundles of policy {past.version} have changed since it was in force; "
                    "bring them back, or put a new policy.",
                    "policy_not_restorable",
                )
            await self._exchange(found, "rollback", request_id)
            self.history.drop_last()
            return found

    def require(self, expected: str) -> None:
        """Raise a 412 unless ``expected`` is the version in force."""
        if expected != self.current.version:
            raise ApiError(
                412,
                f"Policy {self.current.version} is in force, not the version that If-Match names.",
                code="precondition_failed",
            )

    async def _exchange(self, found: PolicySet, source: PolicySource, request_id: str) -> None:
        before = self._file.content()
        if before != self.current.text.encode() and await self._holds_another_policy():
            raise ApiError(
                412,
                "The policy file was changed on disk and waits to be reloaded; read it again.",
                code="precondition_failed",
            )
        self._file.write(found.text.encode())
        try:
            await self._change_to(found, source, request_id)
        except BaseException as error:
            self._file.restore(before)
            if not isinstance(error, Exception):
                raise
            logger.error("policy not changed, %s stays: %s", self.current.version, error)
            raise _conflict(
                f"The policy was not installed, {self.current.version} stays in force: {error}",
                "policy_not_installed",
            ) from error

    async def _holds_another_policy(self) -> bool:
        try:
            found = await self._read(load_policy_set, self.path)
        except (FileError, SteeringError):
            return False
        return found.version != self.current.version

    async def _read(self, load: Callable[..., PolicySet], *arguments: object) -> PolicySet:
        found = await asyncio.to_thread(load, *arguments)
        self._approve(found)
        return found

    async def _change_to(
        self, found: PolicySet, source: PolicySource, request_id: str | None = None
    ) -> None:
        before = self.current
        self._former.update({id(policy): policy for policy in before.policies.values()})
        if found.version != before.version:
            # Not after the swap: a request may be choosing the old policy right now.
            await self._host.retire(self._needed(found))
            await self._install(found)
            if source != "rollback":
                self.history.push(before.version, before.text)
        elif found.text != before.text:
            self.current = found
        self._in_force(before.version, source, request_id)

    def _needed(self, found: PolicySet) -> set[str]:
        """Bundles that are about to be loaded, or that a request on its way may bring along."""
        policies = (*self._former.values(), *found.policies.values())
        return {policy.bundle.digest for policy in policies if policy.bundle is not None}

    def _in_force(
        self, before: str | None, source: PolicySource, request_id: str | None = None
    ) -> None:
        current = self.current
        self._gauges.policy_in_force(current)
        if before != current.version:
            digests = tuple(bundle.digest for bundle in current.bundles)
            event = PolicyChanged(before, current.version, source, digests, request_id)
            self._events.policy_changed(event)

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


def _conflict(message: str, code: str) -> ApiError:
    return ApiError(409, message, code=code)
