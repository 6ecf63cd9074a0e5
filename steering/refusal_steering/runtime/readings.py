"""Readings of a step: what the device has written of its requests, on the way to the API process.

All of it is read in one piece, and made into wire readings column by column.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from refusal_steering.gate.reading import GateReading
from refusal_steering.runtime.bank import COEFFICIENT, DOSE, RISK, ROWS
from refusal_steering.runtime.plan import Floats, Ints, Reports, distinct
from refusal_steering.trace import Reading, wire_readings


def readings_of(
    reports: Reports,
    layers: Mapping[int, Sequence[int]],
    found: Tensor,
    gates: Mapping[str, GateReading],
) -> dict[str, list[Any]]:
    """Wire readings by request.

    ``layers`` are the places of each bundle slot's layers in the state table. ``found`` [n or 2n,
    places, 4] are the entries that hold the coefficients of ``reports``, then their owners' where
    these are others; the last place is the blend's.
    """
    entries: Floats = found.numpy()
    wires: dict[str, list[Any]] = {}
    for bundle_slot in distinct(reports.bundle_slot):
        mine = np.flatnonzero(reports.bundle_slot == bundle_slot)
        wires |= _wires(reports, mine, layers[bundle_slot], entries)
    for request_id in gates.keys() & wires.keys():
        reading = Reading.from_wire(wires[request_id])
        wires[request_id] = _gated(reading, gates[request_id]).to_wire()
    return wires


def _wires(
    reports: Reports, mine: Ints, places: Sequence[int], entries: Floats
) -> dict[str, list[Any]]:
    """The wire readings of the reports ``mine``, which are those of one bundle slot."""
    count, some = len(reports), len(mine) < len(reports)
    own, owners = entries[:count], entries[-count:]
    ids, position, blends = reports.request_ids, reports.position, reports.blends
    if some:
        own, owners = own[mine], owners[mine]
        ids, position, blends = [ids[at] for at in mine.tolist()], position[mine], blends[mine]
    here = _slice(places)
    # Column by column, layer by layer: sums over layers are then sums of whole rows.
    earned = np.ascontiguousarray(own[:, here].T)
    counted = earned if len(entries) == count else owners[:, here].T
    wires = wire_readings(
        position=position,
        coefficients=own[:, here, COEFFICIENT],
        risk_logit=earned[RISK].sum(0, dtype=np.float64),
        rows=counted[ROWS].min(0).astype(np.int64),
        dose=earned[DOSE].max(0),
        blended=np.where(blends, owners[:, -1, ROWS], 0.0).astype(np.int64),
    )
    return dict(zip(ids, wires, strict=True))


def _slice(places: Sequence[int]) -> slice | list[int]:
    """Neighbouring places as a slice, which copies nothing."""
    first, end = places[0], places[-1] + 1
    return slice(first, end) if end - first == len(places) else list(places)


def _gated(reading: Reading, gate: GateReading) -> Reading:
    if not math.isfinite(gate.score):
        return Reading.failed("its prompt was not read in full, so its gate has no score")
    return reading._replace(risk_logit=gate.score, gate=gate)
