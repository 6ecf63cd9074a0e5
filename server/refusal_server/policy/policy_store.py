"""The policy in force, and how a new one takes its place."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from refusal_server.errors import ApiError
from refusal_server.events import EventSink, NoEvents, PolicyChanged, PolicySource
from refusal_server.files.file_watcher import FileWatcher
from refusal_server.files.yaml_file import FileError
from refusal_server.policy.agreement.holder import PolicyGauges
from refusal_server.policy.policy_history import PolicyHistory
from refusal_server.policy.policy_lease import PolicyLease, PolicyLeases
from refusal_server.policy.policy_loader import (
    BundleCheck,
    any_model,
    load_policy_set,
    not_a_policy,
    parse_policy_set,
)
from refusal_server.policy.policy_peers import NoPeers, Peers
from refusal_server.policy.policy_ranks import BundleHost, EngineCheck, PolicyRanks
from refusal_server.policy.policy_set import PolicySet
from refusal_server.policy.policy_source import PolicySourceFile
from refusal_server.policy.remote.policy_poll import PolicyPoll
from refusal_server.policy.remote.policy_url import PolicyUrl

logger = logging.getLogger(__name__)


class PolicyStore:
    """Holds one :class:`PolicySet`; a change succeeds as a whole or leaves the last good one.

    ``fits`` judges a bundle by the served model's configuration, before any rank hears of it;
    ``check`` tests it on the engine. The bundles of former versions stay loaded exactly while a
    request holds a lease on them. ``peers`` are other processes that answer with the same engine:
    what they cannot follow does not come into force. With ``url`` the policy is what that holds,
    and the file at ``path`` a copy of it; ``poll`` tells how it is followed.
    """

    def __init__(
        self,
        path: Path,
        first: PolicySet,
        host: BundleHost,
        check: EngineCheck,
        gauges: PolicyGauges,
        *,
        fits: BundleCheck = any_model,
        events: EventSink | None = None,
        history_size: int = 0,
        peers: Peers | None = None,
        url: PolicyUrl | None = None,
    ) -> None:
        self._peers = peers or NoPeers()
        self.poll = None if url is None else PolicyPoll(url, self._take, gauges)
        self._file = PolicySourceFile(path, None if url is None else url.shown)
        self._ranks = PolicyRanks(host, check)
        self._gauges = gauges
        self._fits = fits
        self._events = events or NoEvents()
        self._lock = asyncio.Lock()
        self._tidying: set[asyncio.Task[None]] = set()
        self.leases = PolicyLeases(self._loosened)
        self.path = path
        self.history = PolicyHistory(path.with_name(path.name + ".history"), history_size)
        self.current = first

    def lease(self) -> PolicyLease:
        """The policies in force, for one request; it must be released when the request ends."""
        return self.leases.take(self.current)

    async def start(self) -> None:
        """Bring the first policy into force; raises when a rank does not follow."""
        async with self._lock:
            await self._ranks.install(self.current, ())
            await self._peers.prepare(self.current, first=True)
            self._peers.switch()
            self._in_force(None, "start")
            if self.poll is not None:
                self._file.keep(self.current.text.encode())

    async def reload(self, source: PolicySource = "file") -> bool:
        """Read the file again; on any error log it, keep what is in force, return ``False``.

        Where the policy is that of a URL, ask there again.
        """
        if self.poll is not None:
            return await self.poll.look(again=True)
        async with self._lock:
            try:
                await self._change_to(await self._on_disk(), source)
            except Exception as error:
                logger.error("policy not reloaded, %s stays: %s", self.current.version, error)
                self._gauges.reload_failed()
                return False
        logger.info("policy %s is in force", self.current.version)
        return True

    async def run(self) -> None:
        """Watch the policy file or its URL, and serve the peers, until cancelled."""
        watcher = self.poll or FileWatcher(self.path, self.reload)
        await asyncio.gather(watcher.run(), self._peers.attend(self.reload, self._tidy))

    async def judge(self, text: str) -> PolicySet:
        """What ``text`` would be in force as; raises :class:`FileError` with all its problems."""
        return await asyncio.to_thread(parse_policy_set, text, self.path, self._fits)

    async def exchange(
        self, text: str, expected: str, source: PolicySource = "admin", request_id: str = ""
    ) -> PolicySet:
        """Make ``text`` the policy file and bring it into force on every rank.

        Raises a 412 unless ``expected`` is the version in force, a 400 when ``text`` is no policy,
        a 409 when the file cannot be written or a rank does not follow; then the old file is back.
        """
        async with self._lock:
            self._file.require_writable()
            self.require(expected)
            found = await self._acceptable(text)
            await self._exchange(found, source, request_id)
            return found

    async def roll_back(self, expected: str | None, request_id: str = "") -> PolicySet:
        """Return to the version before, as :meth:`exchange`; a 409 when there is none."""
        async with self._lock:
            self._file.require_writable()
            if expected is not None:
                self.require(expected)
            past = self.history.last
            if past is None:
                raise _conflict("There is no earlier policy to return to.", "no_history")
            found = await self._acceptable(past.text)
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

    async def _take(self, text: str) -> None:
        """Bring ``text``, which the URL holds, into force, and keep the copy of it."""
        assert self.poll is not None
        source = f"the policy at {self.poll.url}"
        async with self._lock:
            found = await asyncio.to_thread(parse_policy_set, text, self.path, self._fits, source)
            await self._change_to(found, "url")
            self._file.keep(text.encode())
        logger.info("policy %s is in force", found.version)

    async def _acceptable(self, text: str) -> PolicySet:
        try:
            return await self.judge(text)
        except FileError as error:
            raise not_a_policy(error) from error

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
            found = await self._on_disk()
        except FileError:
            return False
        return found.version != self.current.version

    async def _on_disk(self) -> PolicySet:
        return await asyncio.to_thread(load_policy_set, self.path, self._fits)

    async def _change_to(
        self, found: PolicySet, source: PolicySource, request_id: str | None = None
    ) -> None:
        before = self.current
        if found.version != before.version:
            try:
                await self._ranks.install(found, self._needed)
                await self._peers.prepare(found)
                # Between these two nothing is awaited: all processes change in one moment.
                self._peers.switch()
                self.current = found
            finally:
                await self._ranks.free(self._needed)
            if source != "rollback":
                self.history.push(before.version, before.text)
        else:
            self.current = found
        self._in_force(before.version, source, request_id)

    def _in_force(
        self, before: str | None, source: PolicySource, request_id: str | None = None
    ) -> None:
        current = self.current
        self._gauges.policy_in_force(current)
        if before != current.version:
            digests = tuple(bundle.digest for bundle in current.bundles)
            event = PolicyChanged(before, current.version, source, digests, request_id)
            self._events.policy_changed(event)

    @property
    def _needed(self) -> frozenset[str]:
        """The bundles of the policy in force and of requests on their way, everywhere."""
        return self.current.digests | self.leases.digests | self._peers.needed

    def _loosened(self, policies: PolicySet) -> None:
        """A request needs fewer bundles of ``policies``: free those that nobody needs now."""
        if policies.version != self.current.version:
            task = asyncio.get_running_loop().create_task(self._tidy())
            self._tidying.add(task)
            task.add_done_callback(self._tidying.discard)

    async def _tidy(self) -> None:
        async with self._lock:
            await self._ranks.free(self._needed)


def _conflict(message: str, code: str) -> ApiError:
    return ApiError(409, message, code=code)
