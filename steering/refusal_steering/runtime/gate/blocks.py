"""Which key-value blocks hold a request's tokens: the scheduler's decisions, followed.

The token at position p of a request is in its block number p // block size, whoever computed it.
Blocks that a request is given new hold nothing of an earlier owner that may be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from refusal_steering.errors import SteeringError
from refusal_steering.runtime.plan import Counts, Ints


class Segment(NamedTuple):
    """``length`` rows of a step from ``row`` on: the tokens of ``block`` from ``position`` on."""

    block: int
    position: int
    row: int
    length: int


class BlockLedger:
    """Block numbers by request, for blocks of ``block_size`` tokens."""

    def __init__(self) -> None:
        self.block_size = 1
        self._blocks: dict[str, list[int]] = {}
        self._fresh: list[int] = []
        self._copies: list[tuple[int, int]] = []

    def start(self, request_id: str, blocks: Iterable[int], computed: int) -> None:
        """A request begins or resumes with ``blocks``, the first ``computed`` tokens found."""
        held = list(blocks)
        self._blocks[request_id] = held
        self._fresh += held[-(-computed // self.block_size) :]

    def extend(self, request_id: str, blocks: Iterable[int]) -> None:
        """A running request gets more blocks."""
        more = list(blocks)
        self._blocks.setdefault(request_id, []).extend(more)
        self._fresh += more

    def copy(self, source: int, target: int) -> None:
        """A block is copied before the next step."""
        self._copies.append((source, target))

    def forget(self, request_ids: Iterable[str]) -> None:
        """Requests end; unknown ids are harmless."""
        for request_id in request_ids:
            self._blocks.pop(request_id, None)

    def take_changes(self) -> tuple[list[int], list[tuple[int, int]]]:
        """Blocks with a new owner and copies to follow in order, since the last call."""
        fresh, copies = self._fresh, self._copies
        self._fresh, self._copies = [], []
        return fresh, copies

    def blocks(self, request_id: str, first: int, end: int) -> list[int]:
        """Blocks that hold the positions ``first`` to ``end`` - 1; none for an empty range."""
        if end <= first:
            return []
        begin, stop = first // self.block_size, -(-end // self.block_size)
        found = self._blocks.get(request_id, [])[begin:stop]
        if len(found) != stop - begin:
            raise SteeringError(f"its tokens {first} to {end - 1} are in no known key-value block")
        return found

    def segments(
        self, request_ids: Sequence[str], computed: Iterable[int], scheduled: Iterable[int]
    ) -> list[Segment]:
        """Where the rows of a batch belong, in batch order; nothing of requests without blocks."""
        found, row = list[Segment](), 0
        for request_id, first, count in zip(request_ids, computed, scheduled, strict=True):
            blocks, end = self._blocks.get(request_id, ()), first + count
            if end <= len(blocks) * self.block_size:
                found += self._split(blocks, first, end, row)
            row += count
        return found

    def cells(
        self, request_ids: Sequence[str], computed: Counts, scheduled: Counts
    ) -> tuple[Ints, Ints]:
        """Cells and positions of a batch's rows, in batch order; -1 for rows without a cell."""
        size = self.block_size
        first, count = np.asarray(computed, np.int64), np.asarray(scheduled, np.int64)
        held = [self._blocks.get(request_id, ()) for request_id in request_ids]
        if (count == 1).all():
            # A decode batch: one look into the list of each request.
            numbers = (first // size).tolist()
            own = [
                blocks[number] if number < len(blocks) else -1
                for blocks, number in zip(held, numbers, strict=True)
            ]
            block = np.array(own, np.int64)
            return np.where(block < 0, -1, block * size + first % size), first
        ends = np.cumsum(count)
        positions = np.arange(int(ends[-1])) + np.repeat(first - ends + count, count)
        cells = np.full(len(positions), -1, np.int64)
        batch = zip(held, (ends - count).tolist(), ends.tolist(), strict=True)
        for blocks, begin, end in batch:
            mine = positions[begin:end]
            if len(mine) and mine[-1] < len(blocks) * size:
                cells[begin:end] = np.array(blocks, np.int64)[mine // size] * size + mine % size
        return cells, positions

    def _split(self, blocks: Sequence[int], first: int, end: int, row: int) -> Iterator[Segment]:
        while first < end:
            number, offset = divmod(first, self.block_size)
            length = min(end - first, self.block_size - offset)
            yield Segment(blocks[number], first, row, length)
            first, row = first + length, row + length
