"""An engine in miniature: a paged cache, prefix hits, chunks, preemption; no model and no vLLM.

The residual rows of a token depend on its whole prefix, as a decoder's do, and blocks are found by
their prefix, kept until they are needed, and given to others then. As in vLLM a block can be found
as soon as it is scheduled: by a request of the same step, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from refusal_steering.bundle import SteeringBundle
from refusal_steering.gate.prompt_gate import PromptGate
from refusal_steering.runtime.gate.bank import GateSizes
from refusal_steering.runtime.steerer import Capacity, ResidualSteering
from refusal_steering.runtime.stream import DecoderLayer
from refusal_steering.trace import Reading
from tests.steering.runtime.gate.gates import NUM_LAYERS, SIZE, STEERED, gated_bundle, rows
from tests.steering.runtime.steps import FORM

BLOCK = 4
# Batches are padded to a multiple of this many rows, as captured graphs want them.
PADDED = 8
READ_LAYERS, ENDS = (1, 2, 3), (2, 3)
Key = tuple[Any, ...]


class Layer(nn.Module):
    """A decoder layer that hands its input on."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden


@dataclass
class Request:
    """One request; ``bundle`` is ``None`` for unsteered ones."""

    tokens: list[int]
    bundle: SteeringBundle | None
    epoch: int
    count_from: int | None = None
    media: tuple[str, ...] = ()
    prompt: int = 0
    computed: int = 0
    blocks: list[int] = field(default_factory=list)
    hit: int = 0
    found_unsteered: bool = False
    found_in_step: bool = False

    def __post_init__(self) -> None:
        self.prompt = len(self.tokens)

    def key(self, end: int) -> Key:
        """What a block that ends before position ``end`` is found by."""
        own: Key = ()
        if end >= self.prompt and self.bundle is not None:
            own = (self.bundle.digest, self.prompt, self.media)
        return (self.epoch, own, *self.tokens[:end])


class PagedEngine:
    """Requests over ``blocks`` blocks of :data:`BLOCK` tokens."""

    def __init__(self, folder: Path, graph_rows: int, blocks: int = 14):
        self.layers = {index: Layer() for index in READ_LAYERS}
        self.steering = ResidualSteering(
            {index: DecoderLayer(layer, None) for index, layer in self.layers.items()},
            hidden_size=SIZE,
            num_layers=NUM_LAYERS,
            capacity=Capacity(
                bundle_slots=4,
                units=2,
                requests=16,
                tokens=64,
                graph_rows=graph_rows,
                gate=GateSizes(READ_LAYERS, ENDS, gates=2, requests=8),
            ),
            device=torch.device("cpu"),
            read_only=set(READ_LAYERS) - {STEERED},
            form=FORM,
        )
        assert self.steering.reader is not None
        self.reader = self.steering.reader
        self.reader.open_cells(blocks, BLOCK)
        self.folder = folder
        self.epoch = 0
        self.requests: dict[str, Request] = {}
        self.scores: dict[str, Reading] = {}
        self._free = list(range(blocks))
        self._users = [0] * blocks
        self.found: dict[Key, int] = {}
        self._unsteered: set[int] = set()
        # Blocks that the last step has begun.
        self.fresh: set[int] = set()
        self.reused = 0
        self._names = 0

    def load(self, name: str, prompt_gate: PromptGate | None) -> SteeringBundle:
        """Load a bundle; what was cached before is not found by requests that come after."""
        bundle = gated_bundle(self.folder, name, prompt_gate)
        self.steering.load(bundle.packed)
        self.epoch += prompt_gate is not None
        return bundle

    def submit(
        self, tokens: Sequence[int], bundle: SteeringBundle | None = None, **changes: Any
    ) -> str:
        """A request arrives; it starts with its first step."""
        self._names += 1
        name = f"r{self._names}"
        request = Request(list(tokens), bundle, self.epoch, **changes)
        self.requests[name] = request
        if bundle is not None:
            wire = {"bundle": bundle.digest, "policy": "p", "policy_version": "v"}
            own = {"count_from": request.count_from, "media": request.media}
            self.steering.admit(name, request.tokens[:], {**wire, **own})
        return name

    def finish(self, name: str) -> None:
        """A request ends or is aborted."""
        self._release(self.requests.pop(name))
        self.steering.release([name])
        self.reader.ledger.forget([name])

    def preempt(self, name: str) -> None:
        """A request loses its blocks and starts again when it is scheduled next."""
        self._release(self.requests[name])

    def step(self, chunks: dict[str, int]) -> dict[str, Reading]:
        """Compute so many tokens of these requests in one batch; skips whom no block is left for.

        A request whose prompt is complete generates a token that its prefix decides.
        """
        self.fresh.clear()
        batch = [(name, count) for name, want in chunks.items() if (count := self.grow(name, want))]
        if not batch:
            return {}
        names = [name for name, _ in batch]
        self.steering.begin(
            names, [self.requests[n].computed for n in names], [count for _, count in batch]
        )
        self._forward(batch)
        collect = self.steering.read()
        wires = collect() if collect else {}
        for name, count in batch:
            self._advance(self.requests[name], count)
        return {name: Reading.from_wire(wire) for name, wire in wires.items()}

    def dummy(self) -> None:
        """The engine's own batch between steps, of rows that are nobody's."""
        self.steering.rest()
        for layer in self.layers.values():
            layer(torch.full((6, SIZE), 100.0))

    def _forward(self, batch: Sequence[tuple[str, int]]) -> None:
        padding = -sum(count for _, count in batch) % PADDED
        for index, layer in self.layers.items():
            parts = []
            for name, count in batch:
                request = self.requests[name]
                end = request.computed + count
                parts.append(rows(index, tuple(request.tokens[:end]), request.computed))
            layer(torch.cat([*parts, torch.full((padding, SIZE), 100.0)]))

    def grow(self, name: str, want: int) -> int:
        """Give a request the blocks for its next ``want`` tokens; how many it gets."""
        request, ledger = self.requests[name], self.reader.ledger
        starts = not request.blocks
        if starts:
            self._hit(request)
        count = min(want, len(request.tokens) - request.computed)
        missing = -(-(request.computed + count) // BLOCK) - len(request.blocks)
        if missing > len(self._free):
            if starts:
                self._release(request)
            return 0
        fresh = [self._take() for _ in range(missing)]
        request.blocks += fresh
        self.fresh.update(fresh)
        if starts:
            ledger.start(name, request.blocks, request.computed)
        else:
            ledger.extend(name, fresh)
        self._publish(request, request.computed + count)
        return count

    def _publish(self, request: Request, end: int) -> None:
        """Have the blocks that are full at ``end`` found."""
        for stop in range(BLOCK, end + 1, BLOCK):
            block = request.blocks[stop // BLOCK - 1]
            if self.found.setdefault(request.key(stop), block) == block and not request.bundle:
                self._unsteered.add(block)

    def _hit(self, request: Request) -> None:
        """Find whole blocks of the prefix; the last token is always computed."""
        for end in range(BLOCK, len(request.tokens), BLOCK):
            block = self.found.get(request.key(end))
            if block is None:
                break
            if block in self._free:
                self._free.remove(block)
            self._users[block] += 1
            request.blocks.append(block)
            request.computed = request.hit = end
            request.found_unsteered |= block in self._unsteered
            request.found_in_step |= block in self.fresh

    def _take(self) -> int:
        block = self._free.pop(0)
        self.reused += block in self.found.values()
        self._unsteered.discard(block)
        self.found = {key: held for key, held in self.found.items() if held != block}
        self._users[block] = 1
        return block

    def _advance(self, request: Request, count: int) -> None:
        request.computed += count
        if request.computed == len(request.tokens):
            request.tokens.append(1 + sum(request.tokens) % 3)

    def _release(self, request: Request) -> None:
        for block in request.blocks:
            self._users[block] -= 1
            if not self._users[block]:
                self._free.append(block)
        request.blocks, request.computed = [], 0
        request.hit, request.found_unsteered, request.found_in_step = 0, False, False
