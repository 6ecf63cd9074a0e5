"""Strategy ``cascade`` through the engine that serves: RAS's pass where MARS's risk leaves a doubt.

The risk is that of MARS's layer at the last prompt token, which the answer's own first step reads;
media are re-centred there as MARS does it (arXiv 2606.31876), so that one zone can hold for all
groups. It is our own strategy: neither paper has it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from refusal_steering.calibration.conformal import budget_threshold
from refusal_steering.coefficient import LayerSteering
from refusal_steering.pipeline.media.collecting import StoredRows
from refusal_steering.pipeline.media.requests import Requests
from refusal_steering.pipeline.parts import Part
from refusal_steering.pipeline.strategies import silent, zone_between
from refusal_steering.spec import SteeringSpec

# Groups that are too small for a bound of their own.
_TOGETHER = "others"


def cascade_part(rows: StoredRows, mars: Part, ras: Part, shares: tuple[float, float]) -> Part:
    """Strategy ``cascade`` from the parts of ``mars`` and ``ras``.

    ``shares`` are of harmful tuning requests of every group below the zone, and of harmless ones
    not above it. Raises ``SteeringError`` where the pre-filter alone meets both, and where all
    harmless tuning requests together are too few.
    """
    ((at, layer),) = mars.spec.layers.items()
    risk = forward_risks(layer, rows.layer(at), rows.requests)
    lows = _lows(rows.requests, risk, shares[0])
    highs = _highs(rows.requests, risk, 1.0 - shares[1])
    zone = zone_between(min(lows.values()), max(highs.values()))
    tuned = risk[rows.requests.chosen("tune")]
    facts = {
        "low": lows,
        "high": highs,
        "tuning_requests_inside": float(
            ((tuned >= zone.low) & (tuned <= zone.high)).float().mean()
        ),
    }
    spec = SteeringSpec.of_parts(
        {at: silent(layer)}, ras.spec.window, prototypes=ras.spec.prototypes
    )
    more = {**ras.more, "grey_zone": zone}
    return Part("cascade", spec, more, {**ras.facts, "grey_zone": facts}, ras.notes)


def forward_risks(layer: LayerSteering, hidden: Tensor, requests: Requests) -> Tensor:
    """Risks [N] of rows [N, H] of ``requests``, re-centred by the media that each brings."""
    found = torch.empty(len(hidden))
    for media, places in requests.by_media.items():
        found[places] = torch.sigmoid(layer.risk_logit(hidden[places], media))
    return found


def _lows(requests: Requests, risk: Tensor, share: float) -> dict[str, float]:
    """The risk by group below which lies at most a ``share`` of harmful tuning requests."""
    tuning = {group: requests.chosen("tune", group, True) for group in requests.groups}
    return {
        group: float(risk[places].quantile(share, interpolation="lower"))
        for group, places in tuning.items()
    }


def _highs(requests: Requests, risk: Tensor, budget: float) -> dict[str, float]:
    """The risk by group above which lies at most a ``budget`` of harmless requests.

    Groups with too few tuning requests for that have one bound together; where they are too few
    together as well, that of all groups.
    """
    fewest = math.ceil(1.0 / budget - 1e-9) - 1
    tuning = {group: requests.chosen("tune", group, False) for group in requests.groups}
    small = [group for group, places in tuning.items() if len(places) < fewest]
    bounds = {group: places for group, places in tuning.items() if group not in small}
    if small:
        together = [place for group in small for place in tuning[group]]
        enough = len(together) >= fewest
        bounds[_TOGETHER] = together if enough else requests.chosen("tune", harmful=False)
    return {group: budget_threshold(risk[places], budget).value for group, places in bounds.items()}
