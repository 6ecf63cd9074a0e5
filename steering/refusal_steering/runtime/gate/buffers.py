"""The gate's step buffers: a plan in the form that the operator reads, on the device.

As for steering there are two forms: steps that no graph replays take compact :class:`LiveStep`
tensors; steps that a captured graph may replay read padded buffers at fixed addresses, and what
was read of their prompts before this step is pooled ahead of the graph, as ``carry``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from refusal_steering.runtime.gate.bank import GateBank
from refusal_steering.runtime.gate.plan import GatePlan, PooledPrompt
from refusal_steering.runtime.gate.pooling import Pooled, nothing, pool
from refusal_steering.runtime.plan import TRASH_SLOT, Ints

# Cells that are gathered at once: bounds the memory of a step with many long prompts.
_GATHERED = 1 << 17

Put = Callable[..., Tensor]


@dataclass(frozen=True, slots=True)
class PromptGroup:
    """``P`` prompts of one gate slot, whose cells are gathered together.

    ``blocks`` [P, n] int64 hold the tokens from position ``base`` [P] on; counted are those from
    ``low`` [P] to below the ``high`` [P, n] of their block. ``request_slot`` and ``variant``
    [P].
    """

    gate_slot: int
    blocks: Tensor
    base: Tensor
    low: Tensor
    high: Tensor
    request_slot: Tensor
    variant: Tensor

    def pooled(self, bank: GateBank) -> Pooled:
        """Pool what stands in the cells."""
        assert bank.cells is not None
        size, (prompts, count) = bank.block_size, self.blocks.shape
        offsets = torch.arange(count * size, device=bank.device)
        inside = (self.blocks * size).unsqueeze(-1) + offsets[:size]
        values = bank.cells[:, :, self.gate_slot].index_select(0, inside.flatten())
        positions = self.base.unsqueeze(-1) + offsets
        high = self.high.repeat_interleave(size, dim=1)
        counted = (positions >= self.low.unsqueeze(-1)) & (positions < high)
        shaped = values.view(prompts, count * size, *values.shape[1:])
        return pool(shaped, counted, positions, bank.shares[self.gate_slot])


@dataclass(frozen=True, slots=True)
class LiveStep:
    """A step that the operator's Python runs.

    ``cells`` [T] int64 by row; ``used`` gate slots are read; ``groups`` by the layer behind which
    they are complete.
    """

    cells: Tensor
    used: int
    groups: dict[int, list[PromptGroup]]


class GateBuffers:
    """Persistent, padded buffers and the live form of the current step.

    ``rows`` [2, R] int64 is the cell and the position of every row. A lane is a prompt that the
    step completes: ``lanes`` [3, P] int64 is its request slot, variant and gate slot,
    ``counted`` [P, R] bool says which rows are its tokens, ``carry`` [P, 5L + 2] is what was read
    of it before this step. ``fused`` says that the operator's form is Triton's.
    """

    def __init__(self, graph_rows: int, bank: GateBank, put: Put, *, fused: bool = False):
        device, layers = bank.device, len(bank.sizes.layers)
        self.graph_rows, self.fused = graph_rows, fused
        self.bank = bank
        size = max(graph_rows, 1)
        count = min(bank.sizes.requests, size)
        self.rows = torch.zeros(2, size, dtype=torch.int64, device=device)
        self.lanes = torch.zeros(3, count, dtype=torch.int64, device=device)
        self.counted = torch.zeros(count, size, dtype=torch.bool, device=device)
        self.carry = nothing(count, layers, device)
        self.live: LiveStep | None = None
        self._put = put
        self._nothing = self.carry.clone()
        self._rows_used, self._lanes_used = True, True

    def clear(self) -> None:
        """Read nothing: for idle steps and for the engine's own dummy batches."""
        self.live = None
        if self._rows_used and self.bank.cells is not None:
            self.rows[0].fill_(self.bank.cells.shape[0] - 1)
            self._rows_used = False
        if self._lanes_used:
            self.lanes.zero_()
            self.lanes[0].fill_(TRASH_SLOT)
            self.counted.zero_()
            self.carry.copy_(self._nothing)
            self._lanes_used = False

    def commit(self, plan: GatePlan) -> None:
        """Make the device follow ``plan`` in the next forward pass."""
        self.clear()
        bank = self.bank
        if bank.cells is None or not bank.used or not len(plan.cells):
            return
        trash = bank.cells.shape[0] - 1
        cells = np.where(plan.cells < 0, trash, plan.cells)
        if plan.prompts:
            # An operator that does not run must leave no score that looks like one.
            slots = self._put([prompt.request.request_slot for prompt in plan.prompts])
            bank.state.index_fill_(0, slots, torch.nan)
        if len(cells) > self.graph_rows:
            self.live = LiveStep(self._put(cells), bank.used, self._by_end(plan.prompts))
        else:
            self._fill(plan, cells)

    def _by_end(self, prompts: Sequence[PooledPrompt]) -> dict[int, list[PromptGroup]]:
        groups: dict[int, list[PromptGroup]] = {}
        for part in _parts(prompts, self.bank.block_size):
            highs = [[p.request.start + 1] * len(p.blocks) for p in part]
            group = self._group(part, highs)
            groups.setdefault(part[0].request.end, []).append(group)
        return groups

    def _fill(self, plan: GatePlan, cells: Ints) -> None:
        _copy(self.rows, self._put(np.stack((cells, plan.positions))))
        self._rows_used = True
        if plan.prompts:
            self._fill_lanes(plan.prompts, len(cells))

    def _fill_lanes(self, prompts: Sequence[PooledPrompt], rows: int) -> None:
        self._lanes_used = True
        owners = [prompt.request for prompt in prompts]
        slots = [(owner.request_slot, owner.variant, owner.gate_slot) for owner in owners]
        _copy(self.lanes, self._put(slots).T)
        counted = torch.zeros(len(prompts), rows, dtype=torch.bool)
        for lane, prompt in enumerate(prompts):
            counted[lane, list(prompt.rows)] = True
        _copy(self.counted, self._put(counted, torch.bool))
        numbers = {prompt.request_id: number for number, prompt in enumerate(prompts)}
        earlier = [prompt for prompt in prompts if prompt.begun]
        for part in _parts(earlier, self.bank.block_size):
            pooled = self._group(part, [prompt.known for prompt in part]).pooled(self.bank)
            lanes = self._put([numbers[prompt.request_id] for prompt in part])
            self.carry.index_copy_(0, lanes, torch.cat(pooled, dim=1))

    def _group(
        self, prompts: Sequence[PooledPrompt], highs: Sequence[Sequence[int]]
    ) -> PromptGroup:
        owners = [prompt.request for prompt in prompts]
        longest = max(len(prompt.blocks) for prompt in prompts)

        def padded(lists: Iterable[Sequence[int]]) -> Tensor:
            return self._put([[*values, *[0] * (longest - len(values))] for values in lists])

        return PromptGroup(
            gate_slot=owners[0].gate_slot,
            blocks=padded(prompt.blocks for prompt in prompts),
            base=self._put([prompt.base for prompt in prompts]),
            low=self._put([owner.count_from for owner in owners]),
            high=padded(highs),
            request_slot=self._put([owner.request_slot for owner in owners]),
            variant=self._put([owner.variant for owner in owners]),
        )


def _copy(target: Tensor, values: Tensor) -> None:
    rows, columns = values.shape
    target[:rows, :columns].copy_(values, non_blocking=True)


def _parts(prompts: Sequence[PooledPrompt], block_size: int) -> Iterator[list[PooledPrompt]]:
    """Prompts of one gate and end, of like lengths, few enough to be gathered at once."""

    def key(prompt: PooledPrompt) -> tuple[int, int]:
        return prompt.request.gate_slot, prompt.request.end

    part: list[PooledPrompt] = []
    for prompt in sorted(prompts, key=lambda prompt: (*key(prompt), -len(prompt.blocks))):
        full = part and (len(part) + 1) * len(part[0].blocks) * block_size > _GATHERED
        if part and (full or key(part[0]) != key(prompt)):
            yield part
            part = []
        part.append(prompt)
    if part:
        yield part
