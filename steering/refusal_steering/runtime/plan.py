"""The plan of one engine step: which rows are steered, by which bundle slot, how strongly.

Slots hold a request's coefficient in every layer's state. Slot 0 is zero for ever and belongs
to every row that is not steered; slot 1 takes the writes of padding rows and is never read.
Requests own one request slot each; scratch slots behind them serve single rows for one step.
Everything is in columns, one entry for each row or request, so that no loop runs over them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

NULL_SLOT, TRASH_SLOT, FIRST_SLOT = 0, 1, 2

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Counts = Sequence[int] | NDArray[np.integer]
Batch = tuple[Sequence[str], Counts, Counts]
"""Request ids in batch order, the position of each one's first row, and how many rows it has."""


@dataclass(frozen=True, slots=True, eq=False)
class SteeredRows:
    """Token rows [n]: ``at`` is their index in the flat batch, the rest is what steers them.

    ``request_slot`` holds a row's coefficient, ``owner`` counts it; ``computes`` says that the
    row's own residual stream sets the coefficient in ``request_slot``, re-centred as ``variant`` of
    the bundle slot says and bounded by ``max_dose`` as a share of the stream's length.
    """

    at: Ints
    request_slot: Ints
    owner: Ints
    bundle_slot: Ints
    variant: Ints
    computes: Bools
    strength: Floats
    max_dose: Floats

    def __len__(self) -> int:
        return len(self.at)


@dataclass(frozen=True, slots=True, eq=False)
class BlendedRows:
    """Rows of logits [n]: ``at`` is their request's place in the batch.

    They choose the answer's token of number ``token``. ``share`` of the bundle slot's prototype is
    blended in; ``owner`` counts it. Rows that are ``zoned`` get it where their request's risk
    logit is above ``high``, nothing where it is below ``low``, and are not counted in between.
    """

    at: Ints
    owner: Ints
    bundle_slot: Ints
    token: Ints
    share: Floats
    zoned: Bools
    low: Floats
    high: Floats

    def __len__(self) -> int:
        return len(self.at)


@dataclass(frozen=True, slots=True, eq=False)
class Reports:
    """Requests [n] of a step: ``request_slot`` holds a coefficient, ``owner`` a count of rows.

    ``position`` is that of the request's last steered row. ``blends`` says that the owner's count
    of blended rows is the request's.
    """

    request_ids: Sequence[str]
    position: Ints
    request_slot: Ints
    owner: Ints
    bundle_slot: Ints
    blends: Bools

    def __len__(self) -> int:
        return len(self.owner)


def distinct(column: Ints) -> list[int]:
    """The different numbers of a column, which often are one."""
    if len(column) and (column == column[0]).all():
        return [int(column[0])]
    found: list[int] = np.unique(column).tolist()
    return found


class PromptPart(NamedTuple):
    """``rows`` rows of a step from ``at`` on: tokens of a prompt from position ``first`` on.

    The prompt has ``length`` tokens; ``policy_version`` is its request's.
    """

    policy_version: str
    length: int
    first: int
    at: int
    rows: int


_INTS, _FLOATS, _BOOLS = np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.bool_)
NO_ROWS = SteeredRows(_INTS, _INTS, _INTS, _INTS, _INTS, _BOOLS, _FLOATS, _FLOATS)
NO_BLENDS = BlendedRows(_INTS, _INTS, _INTS, _INTS, _FLOATS, _BOOLS, _FLOATS, _FLOATS)
NO_REPORTS = Reports((), _INTS, _INTS, _INTS, _INTS, _BOOLS)


@dataclass(frozen=True, slots=True, eq=False)
class StepPlan:
    """Everything the device needs to know about one step of ``tokens`` rows."""

    tokens: int
    rows: SteeredRows = NO_ROWS
    reports: Reports = NO_REPORTS
    blends: BlendedRows = NO_BLENDS
    requests: int = 0


IDLE = StepPlan(0)

# A worked example. Requests a, b and c were admitted in this order to RequestSlots(3, scratch=6):
# they own request slots 2, 3 and 4, and scratch slots begin at 5. Their prompts have 10, 5 and 7
# tokens. a and c are steered by bundle slot 1, b by bundle slot 2; a and b hold the coefficient of
# their last prompt token, each token of c earns its own. One step of six rows decodes b and c and
# computes the last chunk of a's prompt: plan(["b", "c", "a"], [7, 9, 6], [1, 1, 4]).
#
#     at     token                            request slot  owner  bundle slot  computes
#     0      b's position 7, a decode row     3             3      2            no, it holds
#     1      c's position 9, a decode row     5 (scratch)   4      1            yes
#     2-4    a's positions 6 to 8, prompt     not steered, so the plan has no row for them
#     5      a's position 9, its last prompt  2             2      1            yes
#
# Reports: b's coefficient is in request slot 3, c's in 5, a's in 2; owners 3, 4 and 2 count rows.
