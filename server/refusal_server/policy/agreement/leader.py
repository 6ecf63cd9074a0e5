"""How the process that leads brings the others along."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence

from refusal_server.policy.agreement.board import Board, Report
from refusal_server.policy.policy_peers import Reload, Tidy
from refusal_server.policy.policy_set import PolicySet
from refusal_steering.errors import SteeringError

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 30.0
_LOOK_SECONDS = 0.02
_ATTEND_SECONDS = 0.25


class Followers:
    """The processes at ``places``, which follow what is on ``board``; the leader's ``Peers``.

    ``epoch`` tells the reading epoch of this moment. A process that has not followed within
    ``patience`` seconds keeps a change from coming into force; the first policy waits until all
    of them have started.
    """

    def __init__(
        self,
        board: Board,
        places: Sequence[int],
        epoch: Callable[[], int | None],
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._board = board
        self._places = places
        self._epoch = epoch
        self._patience = patience
        self._number = 0

    async def prepare(self, policies: PolicySet, *, first: bool = False) -> None:
        """As :meth:`Peers.prepare`."""
        number = self._board.propose(policies.version, policies.text, self._epoch())
        try:
            await self._followed(number, math.inf if first else self._patience)
        except BaseException:
            self._board.withdraw(number)
            raise
        self._number = number

    def switch(self) -> None:
        """As :meth:`Peers.switch`."""
        self._board.agree(self._number)

    async def attend(self, reload: Reload, tidy: Tidy) -> None:
        """As :meth:`Peers.attend`."""
        # A wish from before is heard, too.
        wishes, reports = 0, self._board.reports()
        while True:
            await asyncio.sleep(_ATTEND_SECONDS)
            try:
                wished, wishes = wishes, self._board.wishes()
                if wishes != wished:
                    await reload("signal")
                reported, reports = reports, self._board.reports()
                if reports != reported:
                    await tidy()
            except Exception:
                logger.exception("the other processes could not be attended to")

    @property
    def needed(self) -> frozenset[str]:
        """As :attr:`Peers.needed`."""
        reports = self._board.reports().values()
        return frozenset(digest for report in reports for digest in report.needed)

    async def _followed(self, number: int, patience: float) -> None:
        deadline = time.monotonic() + patience
        while behind := self._behind(number):
            if time.monotonic() >= deadline:
                raise SteeringError(
                    f"API process {behind[0]} has not followed within {patience:g} seconds"
                )
            await asyncio.sleep(_LOOK_SECONDS)

    def _behind(self, number: int) -> list[int]:
        """Who is not ready to switch; raises for one that cannot."""
        reports = self._board.reports()
        for place, report in reports.items():
            if report.refused == number:
                raise SteeringError(f"API process {place} cannot follow: {report.refusal}")
        nothing = Report()
        return [place for place in self._places if reports.get(place, nothing).prepared != number]
