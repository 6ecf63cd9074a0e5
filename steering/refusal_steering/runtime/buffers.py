"""The step buffers: a plan in the form that the operator reads, on the device.

Steps of up to ``graph_rows`` rows may be replayed from a captured graph, which reads the padded
buffers at their fixed addresses. Larger steps, and every step on a device without graphs, run
the operator's Python, which takes the compact :class:`LiveRows` instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from refusal_steering.runtime.plan import (
    NULL_SLOT,
    TRASH_SLOT,
    SteeredRow,
    StepPlan,
)


@dataclass(frozen=True, slots=True)
class Earning:
    """The rows [m] of one bundle slot and mix of media that compute a coefficient.

    ``max_dose`` [m] float32 bounds it as a share of the residual stream's length. The gates of
    ``gated_by`` [m] request slots open it, if the bundle has one.
    """

    bundle_slot: int
    variant: int
    index: Tensor
    request_slot: Tensor
    max_dose: Tensor
    gated_by: Tensor | None


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
    """Persistent, padded buffers and the live rows of the current step.

    ``tokens`` [3, R] int64 is request slot, bundle slot and owner by token row; ``strength`` [R]
    float32; ``computing`` [5, R] int64 is row index, request slot, bundle slot, variant (bundle
    slot and mix of media) and owner of the rows that compute, ``max_dose`` [R] float32 the bound of
    what they earn. ``gated`` are the bundle slots whose coefficients a gate opens.
    """

    def __init__(self, graph_rows: int, device: torch.device):
        size = max(graph_rows, 1)
        self.graph_rows = graph_rows
        self.device = device
        self.tokens = torch.zeros(3, size, dtype=torch.int64, device=device)
        self.strength = torch.zeros(size, dtype=torch.float32, device=device)
        self.computing = torch.zeros(5, size, dtype=torch.int64, device=device)
        self.max_dose = torch.zeros(size, dtype=torch.float32, device=device)
        self.gated: set[int] = set()
        self.live: LiveRows | None = None
        self._dirty = True
        self.clear()

    def clear(self) -> None:
        """Steer nothing: for idle steps and for the engine's own dummy batches."""
        self.live = None
        if self._dirty:
            self.tokens.zero_()
            self.strength.zero_()
            self.computing.zero_()
            self.computing[1].fill_(TRASH_SLOT)
            self.max_dose.zero_()
            self._dirty = False

    def commit(self, plan: StepPlan) -> None:
        """Make the device follow ``plan`` in the next forward pass."""
        self.clear()
        if not plan.rows:
            return
        if plan.tokens > self.graph_rows:
            self.live = self._live(plan)
        else:
            self._fill(plan)

    def _live(self, plan: StepPlan) -> LiveRows:
        columns = list(zip(*plan.rows, strict=True))
        index, request_slot, owner, bundle_slot = (self.put(column) for column in columns[:4])
        bundle_slots = {row.bundle_slot for row in plan.rows}
        computing: dict[tuple[int, int], list[SteeredRow]] = {}
        for row in plan.rows:
            if row.computes:
                computing.setdefault((row.bundle_slot, row.variant), []).append(row)
        return LiveRows(
            index=index,
            request_slot=request_slot,
            owner=owner,
            bundle_slot=bundle_slot,
            strength=self.put(columns[4], torch.float32),
            ones=torch.ones(len(plan.rows), dtype=torch.float32, device=self.device),
            earning=tuple(self._earning(*key, rows) for key, rows in computing.items()),
            only_bundle_slot=min(bundle_slots) if len(bundle_slots) == 1 else None,
            silent=not any(columns[4]),
            whole_batch=len(plan.rows) == plan.tokens,
        )

    def _earning(self, bundle_slot: int, variant: int, rows: Sequence[SteeredRow]) -> Earning:
        return Earning(
            bundle_slot,
            variant,
            index=self.put([row.at for row in rows]),
            request_slot=self.put([row.request_slot for row in rows]),
            max_dose=self.put([row.max_dose for row in rows], torch.float32),
            gated_by=self.put([row.owner for row in rows]) if bundle_slot in self.gated else None,
        )

    def _fill(self, plan: StepPlan) -> None:
        size = plan.tokens
        tokens = torch.zeros(3, size, dtype=torch.int64)
        tokens[0], strength = NULL_SLOT, torch.zeros(size)
        index = torch.tensor([row.at for row in plan.rows])
        owners = [(row.request_slot, row.bundle_slot, row.owner) for row in plan.rows]
        tokens[:, index] = torch.tensor(owners).T
        strength[index] = torch.tensor([row.strength for row in plan.rows])
        self.tokens[:, :size].copy_(self._stage(tokens), non_blocking=True)
        self.strength[:size].copy_(self._stage(strength), non_blocking=True)
        earning = [row for row in plan.rows if row.computes]
        if earning:
            wanted = [
                (row.at, row.request_slot, row.bundle_slot, row.variant, row.owner)
                for row in earning
            ]
            places = torch.tensor(wanted).T.contiguous()
            max_dose = torch.tensor([row.max_dose for row in earning])
            count = len(earning)
            self.computing[:, :count].copy_(self._stage(places), non_blocking=True)
            self.max_dose[:count].copy_(self._stage(max_dose), non_blocking=True)
        self._dirty = True

    def put(self, values: Sequence[Any] | Tensor, dtype: torch.dtype = torch.int64) -> Tensor:
        """Host values, nested or not, as a device tensor, without waiting for the device."""
        staged = self._stage(torch.as_tensor(values, dtype=dtype))
        return staged.to(self.device, non_blocking=True)

    def _stage(self, tensor: Tensor) -> Tensor:
        # A fresh pinned tensor each step: the caching host allocator keeps it alive until the
        # copy is done, so that an asynchronous step cannot overwrite one still in flight.
        return tensor.pin_memory() if self.device.type == "cuda" else tensor
