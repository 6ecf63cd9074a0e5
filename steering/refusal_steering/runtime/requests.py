"""The requests of a worker: who owns which slot, and the plan of a step from its batch."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from refusal_steering.directive import Directive
from refusal_steering.runtime.bank import MEDIA_MIXES
from refusal_steering.runtime.plan import (
    FIRST_SLOT,
    IDLE,
    NO_BLENDS,
    NULL_SLOT,
    Batch,
    BlendedRows,
    Bools,
    Counts,
    Ints,
    PromptPart,
    Reports,
    SteeredRows,
    StepPlan,
)

# Columns of the table of requests: the positions of the last prompt token and of the last steered
# one, and terms of the directive.
_START, _LAST, _BUNDLE_SLOT, _VARIANT, _HOLD, _BLEND_TOKENS, _ZONED = range(7)
# Columns of its numbers.
_STRENGTH, _MAX_DOSE, _BLEND, _LOW, _HIGH = range(5)
# A position that no token has: nobody's request begins there.
_NEVER = 1 << 62


class _Owned(dict[str, int]):
    """Request slots by request; those that are not steered have the slot that is zero for ever."""

    def __missing__(self, request_id: str) -> int:
        return NULL_SLOT


class RequestSlots:
    """Who owns which request slot, from admission to the end; preemption changes nothing here.

    ``request_slots`` is how many requests can be known at once; the state needs
    ``FIRST_SLOT + request slots + scratch`` rows, one scratch slot per row of the largest step.
    """

    def __init__(self, request_slots: int, scratch: int):
        self.state_rows = FIRST_SLOT + request_slots + scratch
        self._scratch = FIRST_SLOT + request_slots
        self._free = list(range(FIRST_SLOT + request_slots - 1, FIRST_SLOT - 1, -1))
        self._owned = _Owned()
        self._versions = [""] * self._scratch
        self._terms = np.zeros((self._scratch, 7), np.int64)
        self._terms[NULL_SLOT, _START] = _NEVER
        self._numbers = np.zeros((self._scratch, 5), np.float32)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._owned

    def __len__(self) -> int:
        return len(self._owned)

    @property
    def bundle_slots_in_use(self) -> frozenset[int]:
        """Bundle slots that a known request is steered by."""
        return frozenset(self._terms[list(self._owned.values()), _BUNDLE_SLOT].tolist())

    def admit(
        self, request_id: str, prompt_length: int, directive: Directive, bundle_slot: int
    ) -> int | None:
        """Give a request its slot; ``None`` when none is free. Known requests keep theirs."""
        if request_id in self._owned:
            return self._owned[request_id]
        if not self._free:
            return None
        slot = self._free.pop()
        start, window = prompt_length - 1, directive.decode_tokens
        self._terms[slot] = (
            start,
            _NEVER if window is None else start + window,
            bundle_slot,
            bundle_slot * MEDIA_MIXES + directive.media_mix,
            directive.hold,
            directive.blend_tokens,
            directive.grey_zone is not None,
        )
        self._numbers[slot] = (
            directive.applied_strength,
            directive.max_dose,
            directive.applied_blend,
            *map(_logit, directive.grey_zone or (0.0, 0.0)),
        )
        self._versions[slot] = directive.policy_version
        self._owned[request_id] = slot
        return slot

    def release(self, request_ids: Iterable[str]) -> None:
        """Take back the slots of ended requests; unknown ids are unsteered ones."""
        for request_id in request_ids if self._owned else ():
            slot = self._owned.pop(request_id, None)
            if slot is not None:
                self._free.append(slot)

    def last_prompt_rows(self, plan: StepPlan) -> list[tuple[str, int]]:
        """Policy version and index of the rows of ``plan`` that are a last prompt token."""
        rows = plan.rows
        last = rows.computes & (rows.request_slot == rows.owner)
        owners, places = rows.owner[last].tolist(), rows.at[last].tolist()
        return [(self._versions[slot], at) for slot, at in zip(owners, places, strict=True)]

    def blended_rows(self, plan: StepPlan) -> list[tuple[str, int, int]]:
        """Policy version, answer token and place in the batch of the rows of logits that blend."""
        rows = plan.blends
        columns = zip(rows.owner.tolist(), rows.token.tolist(), rows.at.tolist(), strict=True)
        return [(self._versions[slot], token, at) for slot, token, at in columns]

    def prompt_parts(self, batch: Batch) -> list[PromptPart]:
        """The prompt rows of known requests in ``batch``, without those of generated tokens."""
        parts, at = list[PromptPart](), 0
        for request_id, first, count in zip(*batch, strict=True):
            slot = self._owned[request_id]
            start = int(self._terms[slot, _START])
            if slot != NULL_SLOT and first <= start:
                length, version = start + 1, self._versions[slot]
                rows = min(int(count), length - int(first))
                parts.append(PromptPart(version, length, int(first), at, rows))
            at += int(count)
        return parts

    def plan(self, request_ids: Iterable[str], computed: Counts, scheduled: Counts) -> StepPlan:
        """Plan a step from its batch, in batch order.

        ``computed`` are absolute positions of each request's first row, ``scheduled`` how many
        rows it has. Only absolute positions decide, so chunks, recomputation and prefix hits
        cannot move the steered rows.
        """
        ids = list(request_ids)
        if self._owned.keys().isdisjoint(ids):
            return IDLE
        slots = np.fromiter(map(self._owned.__getitem__, ids), np.int64, len(ids))
        first, count = np.asarray(computed, np.int64), np.asarray(scheduled, np.int64)
        if not len(first) == len(count) == len(ids):
            raise ValueError("a batch has as many positions and counts as requests")
        terms = self._terms.take(slots, axis=0)
        start, last = terms[:, _START], terms[:, _LAST]
        end = first + count - 1
        begin, stop = np.maximum(start, first), np.minimum(last, end)
        # One row of logits per request: the one of its last token in the step.
        token = end - start
        blended = (token >= 0) & (token < terms[:, _BLEND_TOKENS])
        steered = np.flatnonzero(begin <= stop)
        blends = self._blends(slots, token, blended) if blended.any() else NO_BLENDS
        if not len(steered):
            return StepPlan(int(count.sum()), blends=blends, requests=len(ids))
        ends = np.cumsum(count)
        rows, lasts = self._rows(slots, begin, stop, steered, ends - count - first)
        mine = terms.take(steered, axis=0)
        reports = Reports(
            request_ids=ids if len(steered) == len(ids) else [ids[at] for at in steered.tolist()],
            position=stop.take(steered),
            request_slot=rows.request_slot.take(lasts),
            owner=slots.take(steered),
            bundle_slot=mine[:, _BUNDLE_SLOT],
            blends=mine[:, _BLEND_TOKENS] > 0,
        )
        return StepPlan(int(ends[-1]), rows, reports, blends, len(ids))

    def _rows(
        self, slots: Ints, begin: Ints, stop: Ints, steered: Ints, shift: Ints
    ) -> tuple[SteeredRows, Ints]:
        """The rows of the places ``steered``, and which of them is each place's last.

        ``shift`` is what leads from a position to the index of its row.
        """
        counts = (stop - begin).take(steered) + 1
        lasts = np.cumsum(counts) - 1
        total = int(lasts[-1]) + 1
        places = steered if total == len(steered) else np.repeat(steered, counts)
        position = begin.take(places)
        if total != len(steered):
            position = position + np.arange(total) - np.repeat(lasts - counts + 1, counts)
        owner = slots.take(places)
        terms, numbers = self._terms.take(owner, axis=0), self._numbers.take(owner, axis=0)
        hold, at_start = terms[:, _HOLD] != 0, position == terms[:, _START]
        rows = SteeredRows(
            at=position + shift.take(places),
            request_slot=self._slots_of(owner, at_start | hold),
            owner=owner,
            bundle_slot=terms[:, _BUNDLE_SLOT],
            variant=terms[:, _VARIANT],
            computes=at_start | ~hold,
            strength=numbers[:, _STRENGTH],
            max_dose=numbers[:, _MAX_DOSE],
        )
        return rows, lasts

    def _slots_of(self, owner: Ints, own: Bools) -> Ints:
        """Rows that are not ``own`` get a scratch slot each."""
        if own.all():
            return owner
        request_slot = owner.copy()
        others = np.flatnonzero(~own)
        request_slot[others] = np.arange(self._scratch, self._scratch + len(others))
        return request_slot

    def _blends(self, slots: Ints, token: Ints, blended: Bools) -> BlendedRows:
        places = np.flatnonzero(blended)
        owner = slots[places]
        return BlendedRows(
            at=places,
            owner=owner,
            bundle_slot=self._terms[owner, _BUNDLE_SLOT],
            token=token[places],
            share=self._numbers[owner, _BLEND],
            zoned=self._terms[owner, _ZONED] != 0,
            low=self._numbers[owner, _LOW],
            high=self._numbers[owner, _HIGH],
        )


def _logit(risk: float) -> float:
    """What a risk is the sigmoid of."""
    if not 0.0 < risk < 1.0:
        return math.inf if risk else -math.inf
    return math.log(risk / (1.0 - risk))
