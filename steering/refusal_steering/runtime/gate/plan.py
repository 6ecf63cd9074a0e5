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

import numpy as np

from refusal_steering.errors import SteeringError
from refusal_steering.runtime.gate.blocks import BlockLedger, Segment
from refusal_steering.runtime.plan import NO_ROWS, Counts, Ints


@dataclass(frozen=True, slots=True)
class GatedRequest:
    """A request whose bundle has a gate.

    ``variant`` is that of its bundle slot for its mix of media, whose threshold holds. ``start`` is
    its last prompt token, ``end`` the layer behind which its score is complete, ``token_risks`` the
    most risks that are reported.
    """

    request_slot: int
    bundle_slot: int
    variant: int
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


@dataclass(frozen=True, slots=True, eq=False)
class GatePlan:
    """``cells`` of a step's rows, -1 for none, and their ``positions``.

    ``prompts`` are those that it completes, ``failures`` says who cannot be read, and why.
    """

    cells: Ints
    positions: Ints
    prompts: tuple[PooledPrompt, ...] = ()
    failures: tuple[tuple[str, str], ...] = ()


NOTHING = GatePlan(NO_ROWS.at, NO_ROWS.at)


class _Starts(dict[str, int]):
    """Last prompt tokens by request; those without a gate have none."""

    def __missing__(self, request_id: str) -> int:
        return -1


class GatedRequests:
    """The requests with a gate, from admission to the end."""

    def __init__(self) -> None:
        self._requests: dict[str, GatedRequest] = {}
        self._starts = _Starts()

    def admit(self, request_id: str, request: GatedRequest) -> None:
        """Take up a request; a second time is what a preempted one does."""
        self._requests[request_id] = request
        self._starts[request_id] = request.start

    def release(self, request_ids: Iterable[str]) -> None:
        """Forget ended requests; unknown ids have no gate."""
        for request_id in request_ids:
            self._requests.pop(request_id, None)
            self._starts.pop(request_id, None)

    def plan(
        self,
        ledger: BlockLedger,
        request_ids: Sequence[str],
        computed: Counts,
        scheduled: Counts,
    ) -> GatePlan:
        """Plan a step from its batch, in batch order."""
        cells, positions = ledger.cells(request_ids, computed, scheduled)
        ending = self._ending(request_ids, computed, scheduled)
        if not ending:
            return GatePlan(cells, positions)
        counts = np.asarray(computed).tolist(), np.asarray(scheduled).tolist()
        written = {segment.block: segment for segment in ledger.segments(request_ids, *counts)}
        prompts, failures = [], []
        for request_id in ending:
            try:
                prompts.append(_pooled(ledger, request_id, self._requests[request_id], written))
            except SteeringError as error:
                failures.append((request_id, str(error)))
        return GatePlan(cells, positions, tuple(prompts), tuple(failures))

    def _ending(self, request_ids: Sequence[str], computed: Counts, scheduled: Counts) -> list[str]:
        """The requests whose last prompt token the step computes."""
        starts = np.fromiter(map(self._starts.__getitem__, request_ids), np.int64, len(request_ids))
        behind = starts - np.asarray(computed, np.int64)
        places = np.flatnonzero((behind >= 0) & (behind < np.asarray(scheduled, np.int64)))
        return [request_ids[place] for place in places.tolist()]


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
