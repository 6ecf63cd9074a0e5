"""The step buffers: a plan in the form that the operator reads, on the device.

Steps of up to ``graph_rows`` rows may be replayed from a captured graph, which reads the padded
entries at their fixed address. Larger steps, and every step on a device without graphs, run
the operator's Python, which takes the compact :class:`LiveRows` instead; its form in Triton takes
entries of the steered rows alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refusal_steering.runtime.bank import MEDIA_MIXES
from refusal_steering.runtime.plan import Ints, Reports, SteeredRows, StepPlan, distinct
from refusal_steering.runtime.transfer import Array, send

# Columns of ``entries``; the last two are float32 numbers in the same 32 bits.
AT, REQUEST_SLOT, OWNER, BUNDLE_SLOT, VARIANT, COMPUTES, STRENGTH, MAX_DOSE = range(8)
COLUMNS = 8


@dataclass(frozen=True, slots=True)
class Earning:
    """The rows [m] of one bundle slot and mix of media that compute a coefficient.

    ``max_dose`` [m] float32 bounds it as a share of the residual stream's length, if anything
    does. The gates of ``gated_by`` [m] request slots open it, if the bundle has one.
    ``whole_batch`` says that these are all rows of the step, in their order.
    """

    bundle_slot: int
    variant: int
    index: Tensor
    request_slot: Tensor
    max_dose: Tensor | None
    gated_by: Tensor | None
    whole_batch: bool


@dataclass(frozen=True, slots=True)
class LiveRows:
    """Only the steered rows of a step.

    ``index``, ``request_slot``, ``owner``, ``bundle_slot`` [n] int64, ``strength`` [n] float32.

    ``ones`` [n] counts them. ``only_bundle_slot`` is their bundle slot where they have but one.
    ``silent`` says that every strength is zero, so the stream must not be touched at all.
    """

    index: Tensor
    request_slot: Tensor
    owner: Tensor
    bundle_slot: Tensor
    strength: Tensor
    ones: Tensor
    earning: tuple[Earning, ...]
    only_bundle_slot: int | None
    silent: bool
    whole_batch: bool


class StepBuffers:
    """Persistent, padded entries and the live rows of the current step.

    ``entries`` [R, 8] int32 say by token row what steers it; rows of zeros are not steered.
    ``reported`` [n] or [2n] int64 are the request slots whose state is read after the step: those
    that hold coefficients, then the owners where they are others. ``gated`` are the bundle slots
    whose coefficients a gate opens. ``fused`` says that the operator's form is Triton's: the steps
    that no graph replays then have ``compact`` entries [n, 8] instead of live rows.
    """

    def __init__(self, graph_rows: int, device: torch.device, *, fused: bool = False):
        self.graph_rows = graph_rows
        self.fused = fused
        self.device = device
        self.entries = torch.zeros(max(graph_rows, 1), COLUMNS, dtype=torch.int32, device=device)
        self.gated: set[int] = set()
        self.live: LiveRows | None = None
        self.compact: Tensor | None = None
        self.reported: Tensor | None = None
        self._filled = 0

    def clear(self) -> None:
        """Steer nothing: for idle steps and for the engine's own dummy batches."""
        self.live = self.compact = self.reported = None
        if self._filled:
            self.entries[: self._filled].zero_()
            self._filled = 0

    def commit(self, plan: StepPlan, along: Sequence[Array] = ()) -> list[Tensor]:
        """Make the device follow ``plan`` in the next forward pass.

        Everything goes to the device in one transfer, and ``along`` with it, which is returned.
        """
        self.clear()
        if not len(plan.rows):
            return send(along, self.device) if along else []
        captured = plan.tokens <= self.graph_rows
        parts = self._parts(plan, captured)
        moved = send([_reported(plan.reports), *parts, *along], self.device)
        self.reported = moved[0]
        if captured:
            self.entries[: plan.tokens].copy_(moved[1], non_blocking=True)
            self._filled = plan.tokens
        elif self.fused:
            self.compact = moved[1]
        else:
            self.live = self._live(plan, moved[1 : 1 + len(parts)])
        return moved[1 + len(parts) :]

    def _parts(self, plan: StepPlan, captured: bool) -> list[Array]:
        if captured:
            entries = np.zeros((plan.tokens, COLUMNS), np.int32)
            entries[plan.rows.at] = _entries(plan.rows)
            return [entries]
        return [_entries(plan.rows)] if self.fused else _live_parts(plan.rows)

    def _live(self, plan: StepPlan, parts: Sequence[Tensor]) -> LiveRows:
        index, request_slot, owner, bundle_slot, strength, *earning = parts
        rows, bundle_slots = plan.rows, distinct(plan.rows.bundle_slot)
        return LiveRows(
            index=index,
            request_slot=request_slot,
            owner=owner,
            bundle_slot=bundle_slot,
            strength=strength,
            ones=torch.ones(len(rows), dtype=torch.float32, device=self.device),
            earning=tuple(self._earning(plan, earning)),
            only_bundle_slot=bundle_slots[0] if len(bundle_slots) == 1 else None,
            silent=not rows.strength.any(),
            whole_batch=len(rows) == plan.tokens,
        )

    def _earning(self, plan: StepPlan, parts: Sequence[Tensor]) -> Iterator[Earning]:
        """The computing rows by variant; ``parts`` are in the order of :func:`_earning_order`."""
        rows, begin = plan.rows, 0
        earning, bounded = rows.variant[rows.computes], np.isfinite(rows.max_dose[rows.computes])
        for variant in distinct(earning):
            mine = earning == variant
            here = slice(begin, begin + int(mine.sum()))
            index, request_slot, owner, max_dose = (part[here] for part in parts)
            bundle_slot = variant // MEDIA_MIXES
            yield Earning(
                bundle_slot,
                variant,
                index,
                request_slot,
                max_dose if bounded[mine].any() else None,
                owner if bundle_slot in self.gated else None,
                len(index) == plan.tokens,
            )
            begin = here.stop


def _reported(reports: Reports) -> Ints:
    if np.array_equal(reports.request_slot, reports.owner):
        return reports.owner
    return np.concatenate((reports.request_slot, reports.owner))


def _entries(rows: SteeredRows) -> NDArray[np.int32]:
    """One entry for each row."""
    entries = np.empty((len(rows), COLUMNS), np.int32)
    entries[:, AT], entries[:, REQUEST_SLOT] = rows.at, rows.request_slot
    entries[:, OWNER], entries[:, BUNDLE_SLOT] = rows.owner, rows.bundle_slot
    entries[:, VARIANT], entries[:, COMPUTES] = rows.variant, rows.computes
    numbers = entries.view(np.float32)
    numbers[:, STRENGTH], numbers[:, MAX_DOSE] = rows.strength, rows.max_dose
    return entries


def _live_parts(rows: SteeredRows) -> list[Array]:
    """Columns of all rows, then of those that compute, if any do."""
    parts: list[Array] = [rows.at, rows.request_slot, rows.owner, rows.bundle_slot, rows.strength]
    earning = _earning_order(rows)
    columns = (rows.at, rows.request_slot, rows.owner, rows.max_dose)
    return [*parts, *(column.take(earning) for column in columns if len(earning))]


def _earning_order(rows: SteeredRows) -> Ints:
    """The rows that compute, those of one variant together."""
    earning = np.flatnonzero(rows.computes)
    return earning.take(np.argsort(rows.variant.take(earning), kind="stable"))
