"""The gate's part of a step: where every row's values go, and whose prompts are complete.

A prompt is pooled in the step that computes its last token: over the values of all its counted
tokens, those of this step and those beside the cache. Which step or which request computes them
does not matter, so chunks, prefix hits and recomputation cannot change the score. A prompt may find
blocks that another request computes in this same step: the scheduler counts them as cached.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from refusal_steering.errors import SteeringError
from refusal_steering.runtime.gate.blocks import BlockLedger, Segment


@dataclass(frozen=True, slots=True)
class GatedRequest:
    """A request whose bundle has a gate.

    ``start`` is its last prompt token, ``end`` the layer behind which its score is complete,
    ``token_risks`` the most risks that are reported.
    """

    request_slot: int
    bundle_slot: int
    gate_slot: int
    count_from: int
    start: int
    end: int
    token_risks: int = 0


class PooledPrompt(NamedTuple):
    """A prompt that this step completes.

    ``blocks`` hold its tokens from position ``base`` on. Its counted tokens below the ``known``
    position of their block were computed before this step; the others are ``rows`` of the batch.
    """

    request_id: str
    request: GatedRequest
    blocks: tuple[int, ...]
    base: int
    known: tuple[int, ...]
    rows: tuple[int, ...]

    @property
    def begun(self) -> bool:
        """Whether some of its counted tokens were computed before this step."""
        return len(self.rows) < self.request.start + 1 - self.request.count_from


@dataclass(frozen=True, slots=True)
class GatePlan:
    """``cells`` of a step's rows, -1 for none, and their ``positions``.

    ``prompts`` are those that it completes, ``failures`` says who cannot be read, and why.
    """

    cells: tuple[int, ...] = ()
    positions: tuple[int, ...] = ()
    prompts: tuple[PooledPrompt, ...] = ()
    failures: tuple[tuple[str, str], ...] = ()


NOTHING = GatePlan()


class GatedRequests:
    """The requests with a gate, from admission to the end."""

    def __init__(self) -> None:
        self._requests: dict[str, GatedRequest] = {}

    def admit(self, request_id: str, request: GatedRequest) -> None:
        """Take up a request; a second time is what a preempted one does."""
        self._requests[request_id] = request

    def release(self, request_ids: Iterable[str]) -> None:
        """Forget ended requests; unknown ids have no gate."""
        for request_id in request_ids:
            self._requests.pop(request_id, None)

    def plan(
        self,
        ledger: BlockLedger,
        request_ids: Sequence[str],
        computed: Sequence[int],
        scheduled: Sequence[int],
    ) -> GatePlan:
        """Plan a step from its batch, in batch order."""
        segments = ledger.segments(request_ids, computed, scheduled)
        written = {segment.block: segment for segment in segments}
        prompts, failures, positions = [], [], list[int]()
        for request_id, first, count in zip(request_ids, computed, scheduled, strict=True):
            positions += range(first, first + count)
            request = self._requests.get(request_id)
            if request is not None and first <= request.start < first + count:
                try:
                    prompts.append(_pooled(ledger, request_id, request, written))
                except SteeringError as error:
                    failures.append((request_id, str(error)))
        cells = ledger.cells(segments, len(positions))
        return GatePlan(tuple(cells), tuple(positions), tuple(prompts), tuple(failures))


def _pooled(
    ledger: BlockLedger,
    request_id: str,
    request: GatedRequest,
    written: Mapping[int, Segment],
) -> PooledPrompt:
    low, end, size = request.count_from, request.start + 1, ledger.block_size
    blocks = ledger.blocks(request_id, low, end)
    base = low // size * size
    known, rows, counted = list[int](), list[int](), 0
    for begin, block in zip(range(base, end, size), blocks, strict=True):
        segment = written.get(block)
        stop = min(begin + size, end)
        if segment is not None:
            behind = min(segment.position + segment.length, stop)
            offset = segment.row - segment.position
            rows += range(max(segment.position, low) + offset, behind + offset)
            stop = min(segment.position, stop)
        known.append(max(stop, low))
        counted += known[-1] - max(begin, low)
    if counted + len(rows) != end - low:
        raise SteeringError(
            f"only {counted + len(rows)} of its {end - low} tokens are accounted for"
        )
    return PooledPrompt(request_id, request, tuple(blocks), base, tuple(known), tuple(rows))
