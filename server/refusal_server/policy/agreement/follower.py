"""The policies of a process that follows: ready before a change counts, and never behind it."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from refusal_server.errors import ApiError
from refusal_server.events import PolicySource
from refusal_server.policy.agreement.board import Board, Proposal, Report
from refusal_server.policy.agreement.holder import PolicyGauges
from refusal_server.policy.policy_lease import PolicyLease, PolicyLeases
from refusal_server.policy.policy_loader import BundleCheck, any_model, parse_policy_set
from refusal_server.policy.policy_set import PolicySet
from refusal_steering.errors import SteeringError

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.05


class PolicyFollower:
    """Holds what the leading process has brought into force, under the same versions.

    Every lease first reads what is agreed: a request that begins after a change is answered under
    the new policy, or refused with a 503 where this process is not ready for it. ``enter_epoch``
    is told the reading epoch of a policy that comes into force here.
    """

    def __init__(
        self,
        board: Board,
        place: int,
        path: Path,
        enter_epoch: Callable[[int | None], None],
        gauges: PolicyGauges,
        fits: BundleCheck = any_model,
    ) -> None:
        self._board = board
        self._place = place
        self._path = path
        self._enter_epoch = enter_epoch
        self._gauges = gauges
        self._fits = fits
        self._number = 0
        self._current: PolicySet | None = None
        self._next: tuple[Proposal, PolicySet] | None = None
        self._report = Report()
        self.leases = PolicyLeases(lambda _: None)

    @property
    def current(self) -> PolicySet:
        """What this process answers with; there is none before :meth:`start` has returned."""
        if self._current is None:
            raise _behind()
        return self._current

    def lease(self) -> PolicyLease:
        """The policies in force, for one request; raises a 503 where this process lacks them."""
        try:
            self._follow(self._board.agreed())
        except sqlite3.Error as error:
            logger.error("what is in force cannot be read: %s", error)
            raise _behind() from error
        return self.leases.take(self.current)

    async def start(self) -> None:
        """Return once the first policy is in force here, as it is on every rank."""
        while self._current is None:
            await self._look()
            await asyncio.sleep(_LOOK_SECONDS)

    async def reload(self, source: PolicySource = "file") -> bool:  # noqa: ARG002
        """Ask the leading process to read the file again; it tells what came of it."""
        self._board.wish()
        return True

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            try:
                await self._look()
            except sqlite3.Error as error:
                logger.error("what is proposed cannot be read: %s", error)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _look(self) -> None:
        self._catch_up()
        proposal = self._board.newest()
        if proposal is not None:
            await self._consider(proposal)
        self._tell(self._report)

    async def _consider(self, proposal: Proposal) -> None:
        if proposal.withdrawn:
            self._next = None
        elif proposal.number > max(self._report.prepared, self._report.refused):
            await self._prepare(proposal)

    async def _prepare(self, proposal: Proposal) -> None:
        try:
            found = await asyncio.to_thread(parse_policy_set, proposal.text, self._path, self._fits)
            if found.version != proposal.version:
                raise SteeringError("the bundles on disk are not those of the proposed policy")
        except Exception as error:
            logger.error("policy %s cannot be followed: %s", proposal.version, error)
            self._tell(replace(self._report, refused=proposal.number, refusal=str(error)))
            return
        # What was prepared before may have been agreed meanwhile; this one cannot have been.
        self._catch_up()
        self._next = proposal, found
        self._tell(replace(self._report, prepared=proposal.number))

    def _catch_up(self) -> None:
        """Switch to what was prepared, if it is agreed."""
        if self._next is not None and self._next[0].number == self._board.agreed():
            self._follow(self._next[0].number)

    def _follow(self, agreed: int) -> None:
        """Switch to what is agreed; raises a 503 where it was not prepared here."""
        if agreed == self._number and agreed:
            return
        if self._next is None or self._next[0].number != agreed:
            raise _behind()
        proposal, found = self._next
        self._number, self._current, self._next = agreed, found, None
        self._enter_epoch(proposal.epoch)
        self._gauges.policy_in_force(found)
        logger.info("policy %s is in force", found.version)

    def _tell(self, report: Report) -> None:
        """Report what is needed, before it can be asked for and until it is not any more."""
        ahead = frozenset() if self._next is None else self._next[1].digests
        present = frozenset() if self._current is None else self._current.digests
        report = replace(report, needed=present | ahead | self.leases.digests)
        if report != self._report:
            self._board.report(self._place, report)
            self._report = report


def _behind() -> ApiError:
    return ApiError(
        503,
        "This process of the server does not have the policy in force yet; try again.",
        code="policy_not_agreed",
        headers={"retry-after": "1"},
    )
