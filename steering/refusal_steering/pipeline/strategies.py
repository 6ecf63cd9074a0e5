"""What a build makes for one model: the layers of every strategy, each from the same rows."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from refusal_steering.bundle import GreyZone
from refusal_steering.calibration.conformal import Threshold, budget_threshold
from refusal_steering.calibration.directions import Direction
from refusal_steering.calibration.model import CalibrationModel
from refusal_steering.coefficient import LayerSteering
from refusal_steering.errors import SteeringError
from refusal_steering.methods.adapter import (
    sharpened,
    train_adapter,
    train_probe,
    with_probe,
)
from refusal_steering.methods.gate import gate_scores, within_budget
from refusal_steering.methods.mars import mars_layer
from refusal_steering.methods.refine import refined
from refusal_steering.pipeline.plan import BuildPlan
from refusal_steering.prompts.examples import Examples

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Adaptive:
    """Directions and finished adapters by layer, and the budget that they keep."""

    directions: Mapping[int, Direction]
    layers: Mapping[int, LayerSteering]
    threshold: Threshold


def refusal_directions(
    target: CalibrationModel, examples: Examples, rows: Mapping[int, Tensor], plan: BuildPlan
) -> dict[int, Direction]:
    """Difference of means over clear plain examples, then turned towards the model's refusal."""
    clear = examples.clear & ~examples.tuning
    means = {
        layer: Direction.between(hidden[clear], examples.harmful[clear])
        for layer, hidden in rows.items()
    }
    prompts = examples.harmful_sample(plan.refinement.prompts, plan.refinement.seed)
    ids = [target.encode(prompt) for prompt in prompts]
    directions = refined(target, ids, means, plan.window, plan.refinement, plan.dose_limit)
    for layer, mean in means.items():
        cosine = float(mean.unit @ directions[layer].unit)
        _log.info("layer %d: direction at cosine %.2f of the difference of means", layer, cosine)
    return directions


def adaptive_layers(
    examples: Examples,
    rows: Mapping[int, Tensor],
    directions: Mapping[int, Direction],
    plan: BuildPlan,
) -> Adaptive:
    """OmniSteer's adapters: trained on the unsteered rows, then held to the budget.

    The budget is split conformal on the everyday tuning requests, one example for each.
    """
    harmful, tuning, learning = examples.harmful, examples.tuning, ~examples.tuning
    raw = {
        layer: train_adapter(
            hidden[learning],
            harmful[learning],
            examples.weight[learning],
            directions[layer],
            plan.recipe,
        )
        for layer, hidden in rows.items()
    }
    harmless_tuning = tuning & ~harmful & examples.everyday & examples.one_per_item
    gated, threshold = within_budget(
        raw, {at: rows[at][harmless_tuning] for at in raw}, plan.budget
    )
    tried = tuning & harmful
    layers = {at: sharpened(layer, rows[at][tried], plan.saturated) for at, layer in gated.items()}
    scores = gate_scores(layers, {at: hidden[tried] for at, hidden in rows.items()})
    _log.info(
        "adapters touch %.1f %% of harmful tuning examples", 100 * (scores > 0).float().mean()
    )
    first = min(layers)
    probe = train_probe(rows[first][learning], harmful[learning], examples.weight[learning])
    return Adaptive(directions, with_probe(layers, first, *probe), threshold)


def static_layers(
    directions: Mapping[int, Direction], adaptive: Mapping[int, LayerSteering], dose: float
) -> dict[int, LayerSteering]:
    """The same directions with a constant ``dose`` and the same risk probe."""
    return {
        layer: replace(
            LayerSteering.static(direction.unit, dose * direction.scale),
            risk_weight=adaptive[layer].risk_weight,
            risk_bias=adaptive[layer].risk_bias,
        )
        for layer, direction in directions.items()
    }


def silent(layer: LayerSteering) -> LayerSteering:
    """A layer that adds nothing and measures the same risk, media re-centred alike."""
    return replace(
        LayerSteering.static(layer.direction, 0.0),
        risk_weight=layer.risk_weight,
        risk_bias=layer.risk_bias,
        offsets=layer.offsets,
    )


def trust_region_layer(examples: Examples, rows: Tensor, plan: BuildPlan) -> LayerSteering:
    """MARS's layer, from clear plain examples alone."""
    clear = examples.clear & ~examples.tuning
    return mars_layer(rows[clear], examples.harmful[clear], plan.mars)


def grey_zone(layer: LayerSteering, examples: Examples, rows: Tensor, plan: BuildPlan) -> GreyZone:
    """Risks of the forward pass between which the risk pass is worth its price.

    Below ``low`` lie at most a share ``plan.grey_zone[0]`` of harmful tuning requests; above
    ``high`` at most ``1 - plan.grey_zone[1]`` of the harmless ones.
    """
    share, harmless_tuning = plan.grey_zone
    risk = torch.sigmoid(layer.risk_logit(rows))
    own = examples.tuning & examples.one_per_item & (examples.everyday | examples.harmful)
    high = budget_threshold(risk[own & ~examples.harmful], 1.0 - harmless_tuning).value
    return zone_between(float(risk[own & examples.harmful].quantile(share)), high)


def zone_between(low: float, high: float) -> GreyZone:
    """The zone, or ``SteeringError`` where no risk lies in it."""
    if low > high:
        raise SteeringError(
            f"the pre-filter alone meets both shares (low {low:.3f} above high {high:.3f}); there "
            "is no grey zone, so use mars instead of cascade"
        )
    return GreyZone(low=low, high=high)
