"""The blend of one worker: rows of logits drawn towards the refusal prototypes of a bundle (RAS).

The output layer is linear, so moving the final state h towards prototype mu_n by a share r is the
same as z <- (1 - r) z + r W mu_n on its logits (arXiv 2510.13698). ``W mu_n`` is computed by the
served model itself when a bundle is loaded, so that precision and scaling are the model's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from refusal_steering.errors import BundleError
from refusal_steering.prototypes import RefusalPrototypes
from refusal_steering.runtime.plan import BlendedRows, Ints
from refusal_steering.runtime.transfer import Array

# Final states [N, H] to logits [N, V]; None on ranks that are not given any logits.
Project = Callable[[Tensor], Tensor | None]


@dataclass(frozen=True, slots=True)
class _BundleSlotRows:
    """The blended rows [m] of one bundle slot: place in the batch, answer token, share."""

    bundle_slot: int
    index: Tensor
    token: Tensor
    share: Tensor


@dataclass(frozen=True, slots=True)
class _Step:
    """What the next rows of logits get; ``requests`` is how many rows there must be."""

    requests: int
    bundle_slots: tuple[_BundleSlotRows, ...]
    owner: Tensor
    beginning: Tensor


class LogitsBlend:
    """Blends the logits of a step once; ``counts`` [request_slots] are the rows blended."""

    def __init__(self, counts: Tensor, project: Project | None = None) -> None:
        self.counts = counts
        self._project = project
        self._tables: dict[int, Tensor | None] = {}
        self._step: _Step | None = None

    def load(self, bundle_slot: int, prototypes: RefusalPrototypes) -> None:
        """Compute the prototypes' logits; raises :class:`BundleError` where that is impossible."""
        if self._project is None:
            raise BundleError(
                "this engine cannot blend logits; serve a strategy without prototypes"
            )
        table = self._project(prototypes.states.to(self.counts.device))
        if table is not None and not torch.isfinite(table).all():
            raise BundleError("the model gives no finite logits for the bundle's prototypes")
        self._tables[bundle_slot] = None if table is None else table.float()

    def clear(self, bundle_slot: int) -> None:
        """Forget the prototypes of ``bundle_slot``."""
        self._tables.pop(bundle_slot, None)

    def rest(self) -> None:
        """Blend nothing until the next :meth:`commit`."""
        self._step = None

    def parts(self, rows: BlendedRows) -> list[Array]:
        """What :meth:`commit` needs on the device of the step's ``rows``."""
        if not len(rows):
            return []
        parts: list[Array] = [rows.owner, rows.owner[rows.token == 0]]
        for _, places in _by_bundle_slot(rows):
            parts += (rows.at[places], rows.token[places], rows.share[places])
        return parts

    def commit(self, rows: BlendedRows, requests: int, parts: Sequence[Tensor]) -> None:
        """Blend ``rows`` of the next logits, of which there is one for each of ``requests``."""
        self._step = None
        if not len(rows):
            return
        owner, beginning, *columns = parts
        found = zip(_by_bundle_slot(rows), *(iter(columns),) * 3, strict=True)
        bundle_slots = tuple(_BundleSlotRows(slot, *of) for (slot, _), *of in found)
        self._step = _Step(requests, bundle_slots, owner, beginning)

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
        for rows in step.bundle_slots:
            table = self._tables[rows.bundle_slot]
            if table is None or table.shape[1] != logits.shape[1]:
                return "the prototypes' logits do not fit the model's"
            share = rows.share.unsqueeze(1)
            mixed = (1.0 - share) * logits.index_select(0, rows.index).float()
            mixed += share * table.index_select(0, rows.token)
            logits.index_copy_(0, rows.index, mixed.to(logits.dtype))
        self.counts.index_fill_(0, step.beginning, 0.0)
        self.counts.index_add_(0, step.owner, torch.ones_like(step.owner, dtype=torch.float32))
        return None


def _by_bundle_slot(rows: BlendedRows) -> Iterator[tuple[int, Ints]]:
    """Bundle slots of rows that get more than nothing, and which rows those are."""
    some = rows.share > 0.0
    for bundle_slot in np.unique(rows.bundle_slot[some]).tolist():
        yield bundle_slot, np.flatnonzero(some & (rows.bundle_slot == bundle_slot))
