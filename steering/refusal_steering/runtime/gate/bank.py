"""The gate bank: the probes of every loaded gate and what they have read, at fixed addresses.

A gate occupies one gate slot, however many bundles use it. What its probes read of a token stands
beside the key-value cache, in the cell of the token's own key-value entries: it is computed when
they are, found wherever they are found, and overwritten with them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from refusal_steering.errors import BundleError, BundleInUseError
from refusal_steering.gate.prompt_gate import PromptGate
from refusal_steering.runtime.bank import MEDIA_MIXES, media_of

# What is kept of a token in every layer.
SCORE, QUERY, VALUE = range(3)
READ = 3
# Columns of ``state``; behind them each layer's pooled score, then the position of its peak.
TOTAL, OPENING, POSITION, PEAK = range(4)
LAYERS = 4


@dataclass(frozen=True, slots=True)
class GateSizes:
    """Sizes that are fixed for the life of an engine.

    ``layers`` are read for up to ``gates`` gates; ``ends`` are those behind which a score may be
    complete. ``requests`` is how many a step may hold.
    """

    layers: tuple[int, ...]
    ends: tuple[int, ...]
    gates: int
    requests: int


class GateBank:
    """Float32 tensors for ``G`` gate slots, ``L`` layers and ``B`` bundle slots.

    ``weight`` [L, 3G, H] and ``bias`` [L, 3G] hold each slot's probes; ``uses`` [G, 2] are the
    factors of maximum and attention, ``shares`` [G, L] of each layer in the mean. ``ramp`` [125 B,
    2] is threshold and width by bundle slot and mix of media. ``floor`` [B] is the least opening: 1
    for bundles that nothing gates.
    ``loaded`` [1] int32 is how many gate slots, from the first on, must be read.
    ``state`` [R, 4 + 2L] is what the device writes, by request slot. ``cells`` [blocks * block
    size + 1, L, G, 3] are the values beside the cache, NaN where nothing was read; the last cell
    takes the writes of rows that have none. It exists as soon as the cache does.
    """

    def __init__(
        self,
        sizes: GateSizes,
        bundle_slots: int,
        hidden_size: int,
        state_rows: int,
        device: torch.device,
    ):
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(*shape, dtype=torch.float32, device=device)

        layers, gates = len(sizes.layers), sizes.gates
        self.sizes = sizes
        self.device = device
        self.weight = zeros(layers, gates * READ, hidden_size)
        self.bias = zeros(layers, gates * READ)
        self.uses = zeros(gates, 2)
        self.shares = zeros(gates, layers)
        self.ramp = zeros(bundle_slots * MEDIA_MIXES, 2) + 1.0
        self.floor = zeros(bundle_slots) + 1.0
        self.loaded = torch.zeros(1, dtype=torch.int32, device=device)
        self.state = zeros(state_rows, LAYERS + 2 * layers) + torch.nan
        self.cells: Tensor | None = None
        self.block_size = 0
        self._slots: list[str | None] = [None] * gates
        self._of_bundle: dict[int, tuple[int, PromptGate]] = {}

    def open_cells(self, blocks: int, block_size: int) -> None:
        """Make room beside a key-value cache of ``blocks`` blocks; once, before any capture."""
        shape = (blocks * block_size + 1, len(self.sizes.layers), self.sizes.gates, READ)
        self.cells = torch.full(shape, torch.nan, dtype=torch.float32, device=self.device)
        self.block_size = block_size

    @property
    def used(self) -> int:
        """How many gate slots, from the first on, must be read."""
        return max((slot + 1 for slot, digest in enumerate(self._slots) if digest), default=0)

    def gate(self, bundle_slot: int) -> tuple[int, PromptGate] | None:
        """Gate slot and gate of a bundle slot; ``None`` for a bundle without one."""
        return self._of_bundle.get(bundle_slot)

    def end(self, gate: PromptGate) -> int:
        """The layer behind which the score of ``gate`` is complete."""
        return min(end for end in self.sizes.ends if end >= gate.layers[-1])

    def check(self, name: str, gate: PromptGate, first_steered: int) -> None:
        """Raise :class:`BundleError` unless this engine can read ``gate`` before it opens."""
        missing = sorted(set(gate.layers) - set(self.sizes.layers))
        ends = [end for end in self.sizes.ends if gate.layers[-1] <= end <= first_steered]
        if missing or not ends:
            raise BundleError(
                f"the gate of bundle {name!r} reads layers {list(gate.layers)}, the engine was "
                f"started to read {list(self.sizes.layers)}; restart it with this bundle in its "
                "policy"
            )
        if gate.digest not in self._slots and None not in self._slots:
            raise BundleInUseError(
                f"all {self.sizes.gates} gate slots hold a gate; retire a bundle, or restart with "
                "more"
            )

    def load(self, bundle_slot: int, gate: PromptGate) -> None:
        """Write a checked gate; nothing that was computed before counts as read by a new one."""
        slot = self._slots.index(gate.digest) if gate.digest in self._slots else self._fill(gate)
        self._of_bundle[bundle_slot] = (slot, gate)
        mixes = slice(bundle_slot * MEDIA_MIXES, (bundle_slot + 1) * MEDIA_MIXES)
        thresholds = [gate.threshold_of(media_of(mix)) for mix in range(MEDIA_MIXES)]
        self.ramp[mixes] = torch.tensor([[value, gate.width] for value in thresholds])
        self.floor[bundle_slot] = 0.0 if gate.opens else 1.0
        self.loaded.fill_(self.used)

    def clear(self, bundle_slot: int) -> None:
        """Forget the gate of a bundle slot; its gate slot is free with its last bundle."""
        self._of_bundle.pop(bundle_slot, None)
        self.floor[bundle_slot] = 1.0
        held = {slot for slot, _ in self._of_bundle.values()}
        for slot, digest in enumerate(self._slots):
            if digest and slot not in held:
                self._slots[slot] = None
        self.loaded.fill_(self.used)

    def forget_blocks(self, blocks: Tensor) -> None:
        """Mark the cells of ``blocks`` [n] int64 as not read."""
        self._by_block().index_fill_(0, blocks, torch.nan)

    def copy_blocks(self, source: Tensor, target: Tensor) -> None:
        """Follow copies of key-value blocks, both [n] int64."""
        by_block = self._by_block()
        by_block.index_copy_(0, target, by_block.index_select(0, source))

    def _by_block(self) -> Tensor:
        assert self.cells is not None
        return self.cells[:-1].view(-1, self.block_size, *self.cells.shape[1:])

    def _fill(self, gate: PromptGate) -> int:
        slot = self._slots.index(None)
        rows = slice(slot * READ, (slot + 1) * READ)
        self.weight[:, rows].zero_()
        self.bias[:, rows].zero_()
        self.shares[slot].zero_()
        for place, index in enumerate(self.sizes.layers):
            if index in gate.probes:
                weight, bias = gate.probes[index].stacked
                self.weight[place, rows].copy_(weight)
                self.bias[place, rows].copy_(bias)
                self.shares[slot, place] = 1.0 / len(gate.probes)
        self.uses[slot].copy_(torch.tensor(gate.uses))
        if self.cells is not None:
            self.cells[:, :, slot].fill_(torch.nan)
        self._slots[slot] = gate.digest
        return slot
