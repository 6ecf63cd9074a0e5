"""The prompt reader of one worker: gates in, batches in, scores out.

Knows nothing of vLLM, and nothing here raises for what a request says.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from refusal_steering.directive import Directive
from refusal_steering.errors import SteeringError
from refusal_steering.gate.prompt_gate import PromptGate
from refusal_steering.gate.reading import GateReading, TokenRisks
from refusal_steering.runtime.bank import MEDIA_MIXES
from refusal_steering.runtime.gate import operator
from refusal_steering.runtime.gate.bank import (
    LAYERS,
    OPENING,
    PEAK,
    POSITION,
    SCORE,
    TOTAL,
    GateBank,
)
from refusal_steering.runtime.gate.blocks import BlockLedger
from refusal_steering.runtime.gate.buffers import GateBuffers, Put
from refusal_steering.runtime.gate.plan import (
    NOTHING,
    GatedRequest,
    GatedRequests,
    GatePlan,
    PooledPrompt,
)
from refusal_steering.runtime.plan import Counts

logger = logging.getLogger(__name__)

Readings = dict[str, GateReading]
ToHost = Callable[[Tensor], Callable[[], Tensor]]


class PromptReader:
    """Reads the prompts of one worker's requests; ``ledger`` follows their key-value blocks."""

    def __init__(self, bank: GateBank, graph_rows: int, put: Put, *, fused: bool = False):
        self.bank = bank
        self.ledger = BlockLedger()
        self._requests = GatedRequests()
        self.buffers = GateBuffers(graph_rows, bank, put, fused=fused)
        self._put = put
        self._plan: GatePlan = NOTHING
        self.engine = operator.register_engine(self.buffers)

    @property
    def layers(self) -> tuple[int, ...]:
        """Indices of the layers that are read, in order."""
        return self.bank.sizes.layers

    def open_cells(self, blocks: int, block_size: int) -> None:
        """Learn the size of the key-value cache; once, when the engine has one."""
        self.ledger.block_size = block_size
        self.bank.open_cells(blocks, block_size)
        self.buffers.clear()

    def admit(
        self, request_id: str, directive: Directive, slots: tuple[int, int], prompt: Sequence[int]
    ) -> None:
        """Take up a request with its request slot and bundle slot, if its bundle has a gate."""
        request_slot, bundle_slot = slots
        found = self.bank.gate(bundle_slot)
        if found is None:
            return
        gate_slot, gate = found
        wanted = directive.count_from
        count_from = gate.count_from(prompt) if wanted is None else min(wanted, len(prompt) - 1)
        self._requests.admit(
            request_id,
            GatedRequest(
                request_slot=request_slot,
                bundle_slot=bundle_slot,
                variant=bundle_slot * MEDIA_MIXES + directive.media_mix,
                gate_slot=gate_slot,
                count_from=count_from,
                start=len(prompt) - 1,
                end=self.bank.end(gate),
                token_risks=directive.token_risks,
            ),
        )

    def release(self, request_ids: Iterable[str]) -> None:
        """Forget ended requests."""
        self._requests.release(request_ids)

    def rest(self) -> None:
        """Read nothing until the next :meth:`begin`."""
        self._plan = NOTHING
        self.buffers.clear()

    def distrust(self) -> None:
        """Take nothing for read that was read so far: after a step that went wrong."""
        if self.bank.cells is not None:
            self.bank.cells.fill_(torch.nan)

    def begin(
        self, request_ids: Sequence[str], computed: Counts, scheduled: Counts
    ) -> Mapping[str, str]:
        """Prepare the next forward pass; the answer is who cannot be read, and why."""
        self.rest()
        fresh, copies = self.ledger.take_changes()
        if not self.bank.used:
            return {}
        if self.bank.cells is None:
            raise SteeringError("prompts cannot be read: there is no room beside the cache")
        if fresh:
            self.bank.forget_blocks(self._put(fresh))
        if copies:
            source, target = zip(*copies, strict=True)
            self.bank.copy_blocks(self._put(source), self._put(target))
        self._plan = self._requests.plan(self.ledger, request_ids, computed, scheduled)
        self.buffers.commit(self._plan)
        return dict(self._plan.failures)

    def read(self, to_host: ToHost) -> Callable[[], Readings] | None:
        """Start reading the scores of the step; call the result to wait and get them."""
        prompts = self._plan.prompts
        if not prompts:
            return None
        slots = self._put([prompt.request.request_slot for prompt in prompts])
        entries = to_host(self.bank.state.index_select(0, slots))
        gates = [self.bank.gate(prompt.request.bundle_slot) for prompt in prompts]
        risks = [self._risks(prompt, to_host) for prompt in prompts]

        def collect() -> Readings:
            rows = entries().tolist()
            return {
                prompt.request_id: self._reading(row, gate[1], along)
                for prompt, row, gate, along in zip(prompts, rows, gates, risks, strict=True)
                if gate is not None
            }

        return collect

    def _reading(
        self, row: list[float], gate: PromptGate, along: Callable[[], TokenRisks] | None
    ) -> GateReading:
        known = self.bank.sizes.layers
        places = [known.index(index) for index in gate.layers]
        layers, peaks = row[LAYERS : LAYERS + len(known)], row[LAYERS + len(known) :]
        read = not math.isnan(row[TOTAL])
        return GateReading(
            score=row[TOTAL],
            opening=row[OPENING] if gate.opens else 1.0,
            position=int(row[POSITION]) if read else -1,
            peak=row[PEAK],
            layers=tuple(layers[place] for place in places),
            peaks=tuple(int(peaks[place]) if read else -1 for place in places),
            risks=None if along is None else along(),
        )

    def _risks(self, prompt: PooledPrompt, to_host: ToHost) -> Callable[[], TokenRisks] | None:
        """Start reading the risk along a prompt, the highest of every few tokens."""
        request = prompt.request
        if not request.token_risks or self.bank.cells is None:
            return None
        count = request.start + 1 - request.count_from
        stride = -(-count // request.token_risks)
        first = request.count_from - prompt.base
        offsets = torch.arange(self.bank.block_size, device=self.bank.device)
        cells = (self._put(prompt.blocks) * self.bank.block_size).unsqueeze(-1) + offsets
        wanted = cells.flatten()[first : first + count]
        values = self.bank.cells.index_select(0, wanted)[:, :, request.gate_slot, SCORE]
        shares = self.bank.shares[request.gate_slot]
        risks = (values.masked_fill(shares == 0.0, 0.0) * shares).sum(-1)
        padded = risks.new_full((-(-count // stride) * stride,), -torch.inf)
        padded[:count] = risks
        host = to_host(padded.view(-1, stride).amax(1))
        return lambda: TokenRisks(request.count_from, stride, tuple(host().tolist()))
