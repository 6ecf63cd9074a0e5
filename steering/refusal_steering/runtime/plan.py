"""The plan of one engine step: which rows are steered, by which bundle slot, how strongly.

Slots hold a request's coefficient in every layer's state. Slot 0 is zero for ever and belongs
to every row that is not steered; slot 1 takes the writes of padding rows and is never read.
Requests own one request slot each; scratch slots behind them serve single rows for one step.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from refusal_steering.directive import Directive
from refusal_steering.runtime.bank import MEDIA_MIXES

NULL_SLOT, TRASH_SLOT, FIRST_SLOT = 0, 1, 2
Batch = tuple[Sequence[str], Sequence[int], Sequence[int]]
"""Request ids in batch order, the position of each one's first row, and how many rows it has."""


class SteeredRow(NamedTuple):
    """One token row: ``at`` is its index in the flat batch and what steers it.

    ``request_slot`` holds its coefficient, ``owner`` counts it; ``computes`` says that the row's
    own residual stream sets the coefficient in ``request_slot``, re-centred as ``variant`` of the
    bundle slot says and bounded by ``max_dose`` as a share of the stream's length.
    """

    at: int
    request_slot: int
    owner: int
    bundle_slot: int
    strength: float
    computes: bool
    variant: int
    max_dose: float


class BlendedRow(NamedTuple):
    """One row of logits: ``at`` is its request's place in the batch, ``token`` which answer token.

    ``share`` of the bundle slot's prototype is blended in; ``owner`` counts it.
    """

    at: int
    owner: int
    bundle_slot: int
    token: int
    share: float


class PromptPart(NamedTuple):
    """``rows`` rows of a step from ``at`` on: tokens of a prompt from position ``first`` on.

    The prompt has ``length`` tokens; ``policy_version`` is its request's.
    """

    policy_version: str
    length: int
    first: int
    at: int
    rows: int


class Report(NamedTuple):
    """A request of this step: ``request_slot`` holds its coefficient, ``owner`` its row count.

    ``blends`` says that the owner's count of blended rows is this request's.
    """

    request_id: str
    position: int
    request_slot: int
    owner: int
    bundle_slot: int
    blends: bool


@dataclass(frozen=True, slots=True)
class StepPlan:
    """Everything the device needs to know about one step of ``tokens`` rows."""

    tokens: int
    rows: tuple[SteeredRow, ...] = ()
    reports: tuple[Report, ...] = ()
    blends: tuple[BlendedRow, ...] = ()
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


@dataclass(slots=True)
class _Request:
    directive: Directive
    bundle_slot: int
    request_slot: int
    start: int
    last: float = field(init=False)

    def __post_init__(self) -> None:
        window = self.directive.decode_tokens
        self.last = float("inf") if window is None else self.start + window


class RequestSlots:
    """Who owns which request slot, from admission to the end; preemption changes nothing here.

    ``request_slots`` is how many requests can be known at once; the state needs
    ``FIRST_SLOT + request slots + scratch`` rows, one scratch slot per row of the largest step.
    """

    def __init__(self, request_slots: int, scratch: int):
        self.state_rows = FIRST_SLOT + request_slots + scratch
        self._scratch = FIRST_SLOT + request_slots
        self._free = list(range(FIRST_SLOT + request_slots - 1, FIRST_SLOT - 1, -1))
        self._requests: dict[str, _Request] = {}

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._requests

    def __len__(self) -> int:
        return len(self._requests)

    @property
    def bundle_slots_in_use(self) -> frozenset[int]:
        """Bundle slots that a known request is steered by."""
        return frozenset(request.bundle_slot for request in self._requests.values())

    def admit(
        self, request_id: str, prompt_length: int, directive: Directive, bundle_slot: int
    ) -> int | None:
        """Give a request its slot; ``None`` when none is free. Known requests keep theirs."""
        if request_id in self._requests:
            return self._requests[request_id].request_slot
        if not self._free:
            return None
        request_slot = self._free.pop()
        self._requests[request_id] = _Request(
            directive, bundle_slot, request_slot, prompt_length - 1
        )
        return request_slot

    def release(self, request_ids: Iterable[str]) -> None:
        """Take back the slots of ended requests; unknown ids are unsteered ones."""
        for request_id in request_ids:
            request = self._requests.pop(request_id, None)
            if request is not None:
                self._free.append(request.request_slot)

    def last_prompt_rows(self, plan: StepPlan) -> list[tuple[str, int]]:
        """Policy version and index of the rows of ``plan`` that are a last prompt token."""
        owners = {request.request_slot: request for request in self._requests.values()}
        return [
            (owners[row.owner].directive.policy_version, row.at)
            for row in plan.rows
            if row.computes and row.request_slot == row.owner
        ]

    def blended_rows(self, plan: StepPlan) -> list[tuple[str, int, int]]:
        """Policy version, answer token and place in the batch of the rows of logits that blend."""
        owners = {request.request_slot: request for request in self._requests.values()}
        return [
            (owners[row.owner].directive.policy_version, row.token, row.at) for row in plan.blends
        ]

    def prompt_parts(self, batch: Batch) -> list[PromptPart]:
        """The prompt rows of known requests in ``batch``, without those of generated tokens."""
        parts, at = list[PromptPart](), 0
        for request_id, first, count in zip(*batch, strict=True):
            request = self._requests.get(request_id)
            if request is not None and first <= request.start:
                length, version = request.start + 1, request.directive.policy_version
                parts.append(PromptPart(version, length, first, at, min(count, length - first)))
            at += count
        return parts

    def plan(
        self, request_ids: Sequence[str], computed: Sequence[int], scheduled: Sequence[int]
    ) -> StepPlan:
        """Plan a step from its batch, in batch order.

        ``computed`` are absolute positions of each request's first row, ``scheduled`` how many
        rows it has. Only absolute positions decide, so chunks, recomputation and prefix hits
        cannot move the steered rows.
        """
        rows: list[SteeredRow] = []
        reports: list[Report] = []
        blends: list[BlendedRow] = []
        offset, scratch = 0, self._scratch
        batch = zip(request_ids, computed, scheduled, strict=True)
        for place, (request_id, first, count) in enumerate(batch):
            request = self._requests.get(request_id)
            if request is not None:
                # One row of logits per request: the one of its last token in the step.
                token = first + count - 1 - request.start
                if 0 <= token < request.directive.blend_tokens:
                    blends.append(_blend(request, place, token))
                begin, end = max(request.start, first), min(request.last, first + count - 1)
                for position in range(begin, int(end) + 1) if begin <= end else ():
                    own = position == request.start or request.directive.hold
                    request_slot = request.request_slot if own else scratch
                    scratch += not own
                    rows.append(_row(request, offset + position - first, request_slot, position))
                if begin <= end:
                    reports.append(_report(request_id, request, int(end), rows[-1].request_slot))
            offset += count
        return StepPlan(offset, tuple(rows), tuple(reports), tuple(blends), len(request_ids))


def _row(request: _Request, at: int, request_slot: int, position: int) -> SteeredRow:
    return SteeredRow(
        at=at,
        request_slot=request_slot,
        owner=request.request_slot,
        bundle_slot=request.bundle_slot,
        strength=request.directive.applied_strength,
        computes=position == request.start or not request.directive.hold,
        variant=request.bundle_slot * MEDIA_MIXES + request.directive.media_mix,
        max_dose=request.directive.max_dose,
    )


def _report(request_id: str, request: _Request, position: int, request_slot: int) -> Report:
    blends = request.directive.blend_tokens > 0
    return Report(
        request_id, position, request_slot, request.request_slot, request.bundle_slot, blends
    )


def _blend(request: _Request, place: int, token: int) -> BlendedRow:
    return BlendedRow(
        place, request.request_slot, request.bundle_slot, token, request.directive.applied_blend
    )
