"""Refusal vectors by group and layer, the golden vector over the media, and which layers to steer.

A direction is only trusted where it tells apart requests that took no part in it: every group's own
difference of means is tried on its tuning rows, at the layer where text is told apart best. A group
that fails is noise to this model; it is noted, and neither vectors nor adapters learn from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from refusal_steering.analysis.layer_scores import best_neighbours
from refusal_steering.analysis.separability import auroc
from refusal_steering.calibration.directions import mean_difference
from refusal_steering.errors import SteeringError
from refusal_steering.methods.golden import GoldenError, golden_vector
from refusal_steering.pipeline.media.collecting import StoredRows
from refusal_steering.pipeline.media.plan import MediaPlan
from refusal_steering.pipeline.media.requests import TEXT, Requests
from refusal_steering.pipeline.media.work import Kept, Work

# The last layers write the next token; papers and practice leave them out.
_USABLE = 0.8


@dataclass(frozen=True, slots=True)
class Vectors:
    """Golden vectors [H] and the stream's usual length by layer, and what is known of the groups.

    ``areas`` are the areas under the ROC curves of tuning rows, by group, at ``layer``. ``heard``
    are the groups that are told apart, ``chosen`` the layers to steer.
    """

    golden: Mapping[int, Tensor]
    scales: Mapping[int, float]
    chosen: tuple[int, ...]
    layer: int
    areas: Mapping[str, float]
    heard: tuple[str, ...]
    facts: Mapping[str, Any]
    digest: str

    @property
    def notes(self) -> list[str]:
        """What a user must know of groups and layers that are left out."""
        left = [
            f"{group} is not told apart (area {area:.2f} on tuning rows of layer {self.layer}): "
            "no direction is learnt from it"
            for group, area in self.areas.items()
            if group not in self.heard
        ]
        skipped: Mapping[str, str] = self.facts["left_out"]
        return [*left, *(f"layer {layer} has no vector: {why}" for layer, why in skipped.items())]


def vectors_of(rows: StoredRows, depth: int, plan: MediaPlan, work: Work) -> Vectors:
    """Vectors of ``depth`` layers from the training rows, judged on the tuning rows.

    Raises ``SteeringError`` where not even text is told apart, or no layer has a vector.
    """
    inputs = {
        "rows": rows.digest,
        "told_apart": plan.told_apart,
        "layers": plan.layers,
        "count": plan.count,
    }
    return _vectors(work.kept("vectors", inputs, lambda: _found(rows, depth, plan)))


def _vectors(kept: Kept) -> Vectors:
    facts = kept.facts
    return Vectors(
        golden={int(name): tensor for name, tensor in kept.tensors.items()},
        scales={int(layer): scale for layer, scale in facts["scales"].items()},
        chosen=tuple(facts["chosen"]),
        layer=facts["layer"],
        areas=facts["areas"],
        heard=tuple(facts["heard"]),
        facts=facts,
        digest=kept.digest,
    )


def _found(rows: StoredRows, depth: int, plan: MediaPlan) -> Kept:
    requests = rows.requests
    usable = range(max(1, int(_USABLE * depth)))
    groups = requests.groups
    means: dict[int, dict[str, Tensor]] = {}
    areas: dict[int, dict[str, float]] = {}
    scales: dict[int, float] = {}
    for layer in sorted({*usable, *(plan.layers or ())}):
        hidden = rows.layer(layer)
        means[layer] = {name: _difference(hidden, requests, name) for name in groups}
        areas[layer] = {
            name: _area(hidden, requests, name, vector) for name, vector in means[layer].items()
        }
        text = requests.chosen("train", TEXT)
        scales[layer] = float(hidden[text].norm(dim=-1).median())
    best = max(usable, key=lambda layer: areas[layer][TEXT])
    heard = tuple(name for name in groups if areas[best][name] >= plan.told_apart)
    if TEXT not in heard:
        raise SteeringError(
            f"text requests are not told apart (area {areas[best][TEXT]:.2f} on tuning rows of the "
            f"best layer, {best}; expected {plan.told_apart}); check the labels, or give more rows"
        )
    golden, facts, left_out = _golden(means, heard)
    chosen = _chosen(golden, areas, heard, plan)
    return Kept(
        {str(layer): vector for layer, vector in golden.items()},
        {
            "golden": facts,
            "left_out": left_out,
            "scales": scales,
            "chosen": chosen,
            "layer": best,
            "areas": areas[best],
            "heard": heard,
        },
    )


def _difference(hidden: Tensor, requests: Requests, group: str) -> Tensor:
    learning = requests.chosen("train", group)
    harmful = torch.tensor([requests.all[place].harmful for place in learning])
    return mean_difference(hidden[learning], harmful)


def _area(hidden: Tensor, requests: Requests, group: str, vector: Tensor) -> float:
    tuning = requests.chosen("tune", group)
    harmful = torch.tensor([requests.all[place].harmful for place in tuning])
    return auroc(hidden[tuning] @ vector, harmful)


def _golden(
    means: Mapping[int, Mapping[str, Tensor]], heard: tuple[str, ...]
) -> tuple[dict[int, Tensor], dict[str, Any], dict[str, str]]:
    """Vectors, facts, and reasons of layers without one.

    The rows of the decomposition are text and the media that stand alone, as published. Where only
    text is told apart its own vector is the golden one.
    """
    pure = [name for name in heard if "+" not in name]
    found: dict[int, Tensor] = {}
    facts: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    for layer, of in means.items():
        if len(pure) == 1:
            found[layer] = of[TEXT]
            facts[str(layer)] = {"method": "text alone", "norm": float(of[TEXT].norm())}
            continue
        try:
            golden = golden_vector({name: of[name] for name in pure}, TEXT)
        except GoldenError as error:
            left_out[str(layer)] = str(error)
            continue
        found[layer] = golden.vector
        facts[str(layer)] = {
            "method": golden.facts.method,
            "first_share": golden.facts.first_share,
            "cosine_text": golden.facts.cosine_text,
            "norms": golden.facts.norms,
        }
    if not found:
        raise GoldenError(f"no layer has a golden vector: {next(iter(left_out.values()))}")
    return found, facts, left_out


def _chosen(
    golden: Mapping[int, Tensor],
    areas: Mapping[int, Mapping[str, float]],
    heard: tuple[str, ...],
    plan: MediaPlan,
) -> list[int]:
    """The layers of the plan, or the neighbours whose groups are told apart best."""
    if plan.layers is not None:
        missing = sorted(set(plan.layers) - set(golden))
        if missing:
            raise SteeringError(f"layer {missing[0]} has no golden vector; choose another")
        return sorted(set(plan.layers))
    scores = {layer: sum(areas[layer][name] for name in heard) for layer in golden}
    return best_neighbours(scores, plan.count)
