"""Strategies ``static`` and ``omnisteer`` from rows of all groups (arXiv 2602.10161, section 4).

Adapters have the published loss and window, and a bound that the paper lacks. They learn harm from
the groups that are told apart, and restraint from all: a medium that is noise to the model must not
be steered for it. Their biases are then lowered until every group keeps the budget on its own
harmless tuning requests, by split conformal prediction; they are never raised above what was
trained.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from refusal_steering.bundle import Window
from refusal_steering.calibration.conformal import budget_threshold
from refusal_steering.coefficient import LayerSteering
from refusal_steering.methods.adapter import train_probe, with_probe
from refusal_steering.methods.gate import gate_scores
from refusal_steering.methods.omnisteer_training import (
    TrainedLayer,
    Training,
    TrainingError,
    train_layer,
)
from refusal_steering.pipeline.media.collecting import StoredRows
from refusal_steering.pipeline.media.plan import MediaPlan
from refusal_steering.pipeline.media.requests import Requests
from refusal_steering.pipeline.media.vectors import Vectors
from refusal_steering.pipeline.parts import Part
from refusal_steering.spec import SteeringSpec

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Probe:
    """A linear reading of harm at the first steered layer, before anything is added."""

    layer: int
    weight: Tensor
    bias: float

    def on(self, layers: Mapping[int, LayerSteering]) -> dict[int, LayerSteering]:
        """``layers`` with this probe, on their first one if that is where it reads."""
        if min(layers) != self.layer:
            return dict(layers)
        return with_probe(layers, self.layer, self.weight, self.bias)


def probe_of(rows: StoredRows, vectors: Vectors) -> Probe:
    """A logistic probe at the first steered layer, from the groups that are told apart."""
    first, requests = vectors.chosen[0], rows.requests
    learning = _places(requests, vectors.heard)
    harmful = _labels(requests, learning)
    weight, bias = train_probe(rows.layer(first)[learning], harmful, torch.ones(len(learning)))
    return Probe(first, weight, bias)


def static_part(vectors: Vectors, probe: Probe, plan: MediaPlan) -> Part:
    """Strategy ``static``: the golden directions at a constant dose."""
    layers = {
        layer: LayerSteering.static(
            vectors.golden[layer] / vectors.golden[layer].norm(),
            plan.static_dose * vectors.scales[layer],
        )
        for layer in vectors.chosen
    }
    spec = SteeringSpec.of_parts(
        probe.on(layers), Window(decode_tokens=None, hold=True), dose_limit=plan.dose_limit
    )
    return Part("static", spec, facts={"golden": _golden_facts(vectors)})


def omnisteer_part(rows: StoredRows, vectors: Vectors, probe: Probe, plan: MediaPlan) -> Part:
    """Strategy ``omnisteer``; layers whose adapter earns nothing are left out with their reason.

    Raises :class:`TrainingError` where none is left, and ``SteeringError`` for too few requests.
    """
    trained, left_out = _trained(rows, vectors, plan)
    layers, thresholds = _within_budget(
        {layer: one.steering for layer, one in trained.items()}, rows, plan.budget
    )
    touched = _touched(layers, rows)
    _log.info("omnisteer touches, of harmful tuning requests: %s", touched)
    spec = SteeringSpec.of_parts(probe.on(layers), plan.window, dose_limit=plan.dose_limit)
    facts = {
        "method": "omnisteer, open loop, thresholds by group",
        "training": asdict(plan.training),
        "dose": plan.dose,
        "golden": _golden_facts(vectors),
        "layers": {str(layer): asdict(one.facts) for layer, one in trained.items()},
        "left_out": left_out,
        "thresholds": thresholds,
        "touched_harmful": touched,
    }
    return Part("omnisteer", spec, facts=facts)


def _trained(
    rows: StoredRows, vectors: Vectors, plan: MediaPlan
) -> tuple[dict[int, TrainedLayer], dict[str, str]]:
    requests = rows.requests
    learning = [
        place
        for place in requests.chosen("train")
        if requests.all[place].group in vectors.heard or not requests.all[place].harmful
    ]
    harmful = _labels(requests, learning)
    trained: dict[int, TrainedLayer] = {}
    left_out: dict[str, str] = {}
    for layer in vectors.chosen:
        hidden = rows.layer(layer)[learning]
        how = _bounded(plan, vectors.scales[layer])
        try:
            trained[layer] = train_layer(vectors.golden[layer], hidden, harmful, how)
        except TrainingError as error:
            left_out[str(layer)] = str(error)
            _log.warning("layer %d has no adapter: %s", layer, error)
    if not trained:
        raise TrainingError(f"no layer has an adapter: {next(iter(left_out.values()))}")
    return trained, left_out


def _bounded(plan: MediaPlan, length: float) -> Training:
    """The training of a layer whose residual stream has this ``length``.

    Without a bound, the row that is projected least sets it: up to four fifths of the stream at
    each layer, which no answer survives.
    """
    known = plan.training.k_max
    return replace(plan.training, k_max=plan.dose * length if known is None else known)


def _within_budget(
    layers: Mapping[int, LayerSteering], rows: StoredRows, budget: float
) -> tuple[dict[int, LayerSteering], dict[str, Any]]:
    """Layers lowered until every group keeps the budget, and each group's own threshold."""
    scores, requests = _scores(layers, rows), rows.requests
    found = {
        group: budget_threshold(scores[requests.chosen("tune", group, False)], budget)
        for group in requests.groups
    }
    # Nothing is touched at the threshold itself.
    shift = max(0.0, *(one.value for one in found.values())) + 1e-6
    lowered = {
        layer: replace(one, output_bias=one.output_bias - shift * one.ceiling)
        for layer, one in layers.items()
    }
    return lowered, {group: asdict(one) for group, one in found.items()}


def _touched(layers: Mapping[int, LayerSteering], rows: StoredRows) -> dict[str, float]:
    scores, requests = _scores(layers, rows), rows.requests
    return {
        group: round(float((scores[requests.chosen("tune", group, True)] > 0).float().mean()), 3)
        for group in requests.groups
    }


def _scores(layers: Mapping[int, LayerSteering], rows: StoredRows) -> Tensor:
    return gate_scores(layers, {layer: rows.layer(layer) for layer in layers})


def _golden_facts(vectors: Vectors) -> dict[str, Any]:
    golden: Mapping[str, Any] = vectors.facts["golden"]
    return {
        "groups": list(vectors.heard),
        "areas": dict(vectors.areas),
        "layers": {str(layer): golden[str(layer)] for layer in vectors.chosen},
    }


def _places(requests: Requests, groups: tuple[str, ...]) -> list[int]:
    return [at for at in requests.chosen("train") if requests.all[at].group in groups]


def _labels(requests: Requests, places: list[int]) -> Tensor:
    return torch.tensor([requests.all[place].harmful for place in places])
