"""MARS of a text build: the layer is chosen on tuning requests, which make no frame."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch

from refusal_steering.analysis.layer_scores import layer_scores
from refusal_steering.analysis.phenomena import LabelledRows, TextFrame
from refusal_steering.calibration.activations import collect
from refusal_steering.calibration.model import CalibrationModel
from refusal_steering.pipeline.parts import LeftOut, Region
from refusal_steering.pipeline.plan import BuildPlan
from refusal_steering.pipeline.strategies import grey_zone, trust_region_layer
from refusal_steering.prompts.examples import Example, Examples

_log = logging.getLogger(__name__)
# Tuning requests of each label that the layers are scored on.
_TUNING = 100


def labelled_rows(
    target: CalibrationModel, examples: Sequence[Example], depth: int
) -> LabelledRows:
    """Rows of ``examples`` behind the first ``depth`` layers, with their labels and forms."""
    found = collect(target, [example.prompt for example in examples], range(depth))
    return LabelledRows(
        torch.stack([found[layer] for layer in range(depth)]),
        torch.tensor([example.item.harmful for example in examples]),
        tuple(example.form for example in examples),
    )


def text_region(
    target: CalibrationModel,
    examples: Examples,
    sample: LabelledRows,
    plan: BuildPlan,
    left_out: LeftOut,
) -> Region:
    """The best layer by text alone, its steering, and its grey zone.

    ``sample`` has the rows to learn from in all layers.
    """
    tuning = labelled_rows(target, _tuning(examples), sample.rows.shape[0])
    scores = layer_scores(tuning, TextFrame.of(sample))
    best, area = scores.best, scores.separability[scores.best]
    _log.info("MARS steers layer %d, area %.2f on tuning requests", best, area)
    needed = (examples.clear & ~examples.tuning) | (examples.tuning & examples.one_per_item)
    chosen = examples.where(needed)
    rows = collect(target, chosen.prompts, [best])[best]
    layer, zone = trust_region_layer(chosen, rows, plan), None
    with left_out.unless("cascade"):
        zone = grey_zone(layer, chosen, rows, plan)
    return Region(best, area, layer, zone)


def _tuning(examples: Examples) -> list[Example]:
    """Plain everyday tuning examples, as many of each label."""
    clear = examples.where(examples.clear & examples.tuning).all
    return [
        example
        for harmful in (True, False)
        for example in [one for one in clear if one.item.harmful == harmful][:_TUNING]
    ]
