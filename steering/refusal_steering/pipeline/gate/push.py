"""What an open gate adds: directions that call up a refusal in every family that it is taught.

Directions that were turned on a few forms call up a refusal there, and broken words in other
languages. A gate opens in all of them.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

from refusal_steering.bundle import SteeringBundle, Window
from refusal_steering.calibration.directions import Direction
from refusal_steering.calibration.model import CalibrationModel
from refusal_steering.calibration.token_rows.row_files import TokenIndex
from refusal_steering.coefficient import LayerSteering
from refusal_steering.methods.refine import refined
from refusal_steering.pipeline.gate.gating import constant, stream_lengths
from refusal_steering.pipeline.plan import GatePlan
from refusal_steering.prompts.gate_labels import GateLabels

# Longer conversations cost more than they teach: the refusal begins behind their last token.
LONGEST = 256


def push_directions(
    target: CalibrationModel,
    index: TokenIndex,
    directions: Mapping[int, Direction],
    window: Window,
    plan: GatePlan,
    dose_limit: float | None,
) -> dict[int, Direction]:
    """``directions`` turned on harmful training conversations of every family of ``index``."""
    prompts = harmful_of_families(index, plan.push.prompts, plan.push.seed)
    return refined(target, prompts, directions, window, plan.push, dose_limit)


def pushed_layers(
    target: CalibrationModel,
    bundle: SteeringBundle,
    index: TokenIndex,
    plan: GatePlan,
    *,
    turn: bool,
) -> dict[int, LayerSteering]:
    """The layers of ``bundle`` at the plan's dose; with ``turn`` along directions of their own."""
    lengths = stream_lengths(target, tuple(bundle.layers))
    layers = {at: constant(layer, plan.dose * lengths[at]) for at, layer in bundle.layers.items()}
    if not turn:
        return layers
    known = {at: Direction(layer.direction, lengths[at]) for at, layer in layers.items()}
    manifest = bundle.manifest
    turned = push_directions(target, index, known, manifest.window, plan, manifest.dose_limit)
    return {at: replace(layer, direction=turned[at].unit) for at, layer in layers.items()}


def harmful_of_families(index: TokenIndex, count: int, seed: int) -> list[tuple[int, ...]]:
    """Token ids of about ``count`` harmful training conversations, as many of each family.

    A family that has fewer gives all of its own.
    """
    token_ids = index.prompts.token_ids
    short = [place for place, ids in enumerate(token_ids) if len(ids) <= LONGEST]
    return [token_ids[place] for place in harmful_places(index.labels, short, count, seed)]


def harmful_places(labels: GateLabels, places: Iterable[int], count: int, seed: int) -> list[int]:
    """About ``count`` of ``places``, harmful training conversations, as many of each family."""
    families: defaultdict[str, list[int]] = defaultdict(list)
    for place in places:
        label = labels.all[place]
        if label.harmful and not label.tuning:
            families[label.family].append(place)
    each = -(-count // max(1, len(families)))
    rng = random.Random(seed)
    return [
        place
        for _, own in sorted(families.items())
        for place in rng.sample(own, min(each, len(own)))
    ]
