"""The blend of one worker: rows of logits drawn towards the refusal prototypes of a bundle (RAS).

The output layer is linear, so moving the final state h towards prototype mu_n by a share r is the
same as z <- (1 - r) z + r W mu_n on its logits (arXiv 2510.13698). ``W mu_n`` is computed by the
served model itself when a bundle is loaded, so that precision and scaling are the model's own.
The share comes from the host, or is set here, from the risk that the same step has read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from refusal_steering.errors import BundleError
from refusal_steering.prototypes import RefusalPrototypes
from refusal_steering.runtime.bank import RISK, ROWS
from refusal_steering.runtime.plan import BlendedRows, Bools, Ints
from refusal_steering.runtime.transfer import Array

# Final states [N, H] to logits [N, V]; None on ranks that are not given any logits.
Project = Callable[[Tensor], Tensor | None]


@dataclass(frozen=True, slots=True)
class _BundleSlotRows:
    """The blended rows [m] of one bundle slot: place in the batch, answer token, blended row."""

    bundle_slot: int
    index: Tensor
    token: Tensor
    row: Tensor


@dataclass(frozen=True, slots=True)
class _ZonedRows:
    """The blended rows [m] of one bundle slot whose share the device sets, and their bounds."""

    bundle_slot: int
    row: Tensor
    owner: Tensor
    low: Tensor
    high: Tensor


@dataclass(frozen=True, slots=True)
class _Step:
    """What the next rows of logits get; ``requests`` is how many rows there must be.

    ``owner`` and ``share`` [n] are of all blended rows; ``beginning`` are the owners whose count
    begins anew.
    """

    requests: int
    bundle_slots: tuple[_BundleSlotRows, ...]
    zoned: tuple[_ZonedRows, ...]
    owner: Tensor
    beginning: Tensor
    share: Tensor


class LogitsBlend:
    """Blends the logits of a step once.

    ``states`` [request_slots, places, 4] is the state table: risks are read from it, and its last
    place counts the rows that were blended.
    """

    def __init__(self, states: Tensor, project: Project | None = None) -> None:
        self._states = states
        self._counts = states[:, -1, ROWS]
        self._project = project
        self._tables: dict[int, Tensor | None] = {}
        self._places: dict[int, Tensor] = {}
        self._step: _Step | None = None

    def load(self, bundle_slot: int, prototypes: RefusalPrototypes, places: Sequence[int]) -> None:
        """Compute the prototypes' logits; ``places`` are those of the bundle's layers.

        Raises :class:`BundleError` where logits are impossible.
        """
        if self._project is None:
            raise BundleError(
                "this engine cannot blend logits; serve a strategy without prototypes"
            )
        table = self._project(prototypes.states.to(self._states.device))
        if table is not None and not torch.isfinite(table).all():
            raise BundleError("the model gives no finite logits for the bundle's prototypes")
        self._tables[bundle_slot] = None if table is None else table.float()
        self._places[bundle_slot] = torch.tensor(
            places, dtype=torch.int64, device=self._states.device
        )

    def clear(self, bundle_slot: int) -> None:
        """Forget the prototypes of ``bundle_slot``."""
        self._tables.pop(bundle_slot, None)
        self._places.pop(bundle_slot, None)

    def rest(self) -> None:
        """Blend nothing until the next :meth:`commit`."""
        self._step = None

    def parts(self, rows: BlendedRows) -> list[Array]:
        """What :meth:`commit` needs on the device of the step's ``rows``."""
        if not len(rows):
            return []
        parts: list[Array] = [rows.owner, rows.owner[rows.token == 0], rows.share]
        for _, row in _by_bundle_slot(rows, rows.share > 0.0):
            parts += (rows.at[row], rows.token[row], row)
        for _, row in _by_bundle_slot(rows, rows.zoned):
            parts += (row, rows.owner[row], rows.low[row], rows.high[row])
        return parts

    def commit(self, rows: BlendedRows, requests: int, parts: Sequence[Tensor]) -> None:
        """Blend ``rows`` of the next logits, of which there is one for each of ``requests``."""
        self._step = None
        if not len(rows):
            return
        owner, beginning, share, *rest = parts
        columns = iter(rest)
        bundle_slots = tuple(
            _BundleSlotRows(slot, *islice(columns, 3))
            for slot, _ in _by_bundle_slot(rows, rows.share > 0.0)
        )
        zoned = tuple(
            _ZonedRows(slot, *islice(columns, 4)) for slot, _ in _by_bundle_slot(rows, rows.zoned)
        )
        self._step = _Step(requests, bundle_slots, zoned, owner, beginning, share)

    def apply(self, logits: Tensor) -> str | None:
        """Blend the step's rows of ``logits`` [R, V] in place, once; a reason if it is impossible.

        Later calls in the same step see other rows (log-probabilities of the prompt) and change
        nothing.
        """
        step, self._step = self._step, None
        if step is None:
            return None
        if logits.shape[0] != step.requests:
            return f"the engine gives {logits.shape[0]} rows of logits for {step.requests} requests"
        shares, counted = self._shares(step)
        for rows in step.bundle_slots:
            table = self._tables[rows.bundle_slot]
            if table is None or table.shape[1] != logits.shape[1]:
                return "the prototypes' logits do not fit the model's"
            share = shares.index_select(0, rows.row).unsqueeze(1)
            mixed = (1.0 - share) * logits.index_select(0, rows.index).float()
            mixed += share * table.index_select(0, rows.token)
            logits.index_copy_(0, rows.index, mixed.to(logits.dtype))
        self._counts.index_fill_(0, step.beginning, 0.0)
        self._counts.index_add_(0, step.owner, counted)
        return None

    def _shares(self, step: _Step) -> tuple[Tensor, Tensor]:
        """The share of every blended row [n], and 1 for each row whose share is set, else 0."""
        shares, counted = step.share, torch.ones_like(step.share)
        for rows in step.zoned:
            read = self._states.select(2, RISK).index_select(0, rows.owner)
            risk = read.index_select(1, self._places[rows.bundle_slot]).sum(1)
            # A risk that is no number is on neither side: it sets nothing, and counts nothing.
            above = risk > rows.high
            mine = shares.index_select(0, rows.row)
            shares = shares.index_copy(0, rows.row, mine.where(above, 0.0))
            decided = (above | (risk < rows.low)).float()
            counted = counted.index_copy(0, rows.row, decided)
        return shares, counted


def _by_bundle_slot(rows: BlendedRows, some: Bools) -> Iterator[tuple[int, Ints]]:
    """Bundle slots of the rows that ``some`` marks, and which rows those are."""
    for bundle_slot in np.unique(rows.bundle_slot[some]).tolist():
        yield bundle_slot, np.flatnonzero(some & (rows.bundle_slot == bundle_slot))
