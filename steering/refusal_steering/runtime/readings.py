"""Readings of a step: what the device has written of its requests, on the way to the host."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from refusal_steering.gate.reading import GateReading
from refusal_steering.runtime.bank import COEFFICIENT, DOSE, RISK, ROWS
from refusal_steering.runtime.plan import Report
from refusal_steering.trace import Reading


def gather(
    reports: Sequence[Report],
    states: Sequence[Tensor],
    blended: Tensor,
    put: Callable[[Sequence[int]], Tensor],
) -> Tensor:
    """State table entries [layers + 1, reports, 4]; the last ones are the blends'."""
    count = len(reports)
    places = [report.request_slot for report in reports] + [report.owner for report in reports]
    index = put(places)
    entries = torch.stack([state[index] for state in states])
    gathered = entries.new_zeros(len(states) + 1, count, entries.shape[-1])
    gathered[:-1] = entries[:, :count]
    gathered[:-1, :, ROWS] = entries[:, count:, ROWS]
    gathered[-1, :, ROWS] = blended[index[count:]]
    return gathered


def to_host(gathered: Tensor) -> Callable[[], Tensor]:
    """Start copying to the host; call the result to wait for it."""
    if gathered.device.type != "cuda":
        return lambda: gathered
    host = torch.empty(gathered.shape, dtype=gathered.dtype, pin_memory=True)
    host.copy_(gathered, non_blocking=True)
    done = torch.cuda.Event()
    done.record()

    def wait() -> Tensor:
        done.synchronize()
        return host

    return wait


def readings_of(
    reports: Sequence[Report],
    layers: Sequence[tuple[int, ...]],
    entries: Tensor,
    gates: Mapping[str, GateReading],
) -> dict[str, list[Any]]:
    """Wire readings by request, of entries as :func:`gather` made them."""
    values = entries.transpose(0, 1).tolist()
    return {
        report.request_id: _reading(
            report, [every[place] for place in steered], every[-1], gates.get(report.request_id)
        ).to_wire()
        for report, steered, every in zip(reports, layers, values, strict=True)
    }


def _reading(
    report: Report, layers: list[list[float]], blend: list[float], gate: GateReading | None
) -> Reading:
    if gate is not None and not math.isfinite(gate.score):
        return Reading.failed("its prompt was not read in full, so its gate has no score")
    return Reading(
        position=report.position,
        coefficients=tuple(layer[COEFFICIENT] for layer in layers),
        risk_logit=sum(layer[RISK] for layer in layers) if gate is None else gate.score,
        rows=int(min(layer[ROWS] for layer in layers)),
        dose=max(layer[DOSE] for layer in layers),
        blended=int(blend[ROWS]) if report.blends else 0,
        gate=gate,
    )
