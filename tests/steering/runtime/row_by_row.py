"""The plan and the readings of a step, one row after the other: what the columns must equal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from refusal_steering.directive import Directive
from refusal_steering.runtime.bank import COEFFICIENT, DOSE, MEDIA_MIXES, RISK, ROWS
from refusal_steering.trace import Reading
from tests.steering.runtime.steps import Blend, Report, Row


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request as it was admitted: ``start`` is the position of its last prompt token."""

    directive: Directive
    bundle_slot: int
    slot: int
    start: int

    def steers(self, position: int) -> bool:
        window = self.directive.decode_tokens
        return self.start <= position and (window is None or position <= self.start + window)

    def computes(self, position: int) -> bool:
        return position == self.start or not self.directive.hold

    def row(self, at: int, position: int, request_slot: int) -> Row:
        return Row(
            at,
            request_slot,
            owner=self.slot,
            bundle_slot=self.bundle_slot,
            variant=self.bundle_slot * MEDIA_MIXES + self.directive.media_mix,
            computes=self.computes(position),
            strength=self.directive.applied_strength,
            max_dose=self.directive.max_dose,
        )


def planned(
    known: dict[str, Admitted], scratch: int, batch: Sequence[tuple[str, int, int]]
) -> tuple[list[Row], list[Report], list[Blend]]:
    """The plan of a batch of requests, first positions and counts."""
    rows, reports, blends, offset = list[Row](), list[Report](), list[Blend](), 0
    for place, (name, first, count) in enumerate(batch):
        request = known.get(name)
        if request is not None:
            token = first + count - 1 - request.start
            if 0 <= token < request.directive.blend_tokens:
                share, zone = request.directive.applied_blend, request.directive.grey_zone
                bounds = (_logit(risk) for risk in zone or (0.0, 0.0))
                mine_of = (place, request.slot, request.bundle_slot, token, share)
                blends.append(Blend(*mine_of, zone is not None, *bounds))
            mine = [p for p in range(first, first + count) if request.steers(p)]
            for position in mine:
                own = position == request.start or request.directive.hold
                rows.append(
                    request.row(
                        offset + position - first, position, request.slot if own else scratch
                    )
                )
                scratch += not own
            if mine:
                reports.append(Report(name, mine[-1], rows[-1].request_slot, request.slot))
        offset += count
    return rows, reports, blends


def _logit(risk: float) -> float:
    logit = torch.logit(torch.tensor(risk, dtype=torch.float64))
    return float(logit.float())


def read(
    reports: Sequence[Report], states: Sequence[Tensor], layers: Sequence[Sequence[int]]
) -> dict[str, list[Any]]:
    """Wire readings from one state table for each layer, with one reading made after the other."""
    index = torch.tensor([r.request_slot for r in reports] + [r.owner for r in reports])
    entries = torch.stack([state[index] for state in states])
    gathered = entries[:, : len(reports)].clone()
    gathered[..., ROWS] = entries[:, len(reports) :, ROWS]
    values = gathered.transpose(0, 1).tolist()
    wires = {}
    for report, mine, every in zip(reports, layers, values, strict=True):
        steered = [every[place] for place in mine]
        reading = Reading(
            position=report.position,
            coefficients=tuple(layer[COEFFICIENT] for layer in steered),
            risk_logit=sum(layer[RISK] for layer in steered),
            rows=int(min(layer[ROWS] for layer in steered)),
            dose=max(layer[DOSE] for layer in steered),
            blended=int(every[-1][ROWS]),
        )
        wires[report.request_id] = reading.to_wire()
    return wires
