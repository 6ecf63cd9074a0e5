"""What a survey of residual rows says, as the figures of a report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from refusal_steering.analysis.areas import areas_at
from refusal_steering.analysis.dissolution import dissolution_at
from refusal_steering.analysis.division import How
from refusal_steering.analysis.separability import roc_curves_at
from refusal_steering.analysis.shrinkage import shrinkage_between
from refusal_steering.analysis.survey import Survey
from refusal_steering.report.gather import (
    cosines_of,
    dissolution_of,
    projections_of,
    roc_of,
    separability_of,
    shrinkage_of,
)
from refusal_steering.report.measurements import Measurements

_HOW: dict[How, str] = {
    "held": "Directions come from the training rows; areas, positions and curves are those of "
    "{measured} held-out rows.",
    "tune": "Nothing was held out: directions come from the training rows; areas, positions and "
    "curves are those of {measured} rows for tuning.",
    "folds": "The rows have no splits to measure on, so every one of {measured} is measured "
    "against directions of other rows, by cross-validation; lengths and cosines come from all.",
}


def with_survey(measurements: Measurements, found: Survey, layer: int) -> Measurements:
    """The same with the figures of ``found``; curves and single positions are those of ``layer``.

    ``layer`` is one of the survey's.
    """
    layers, place = found.layers, found.layers.index(layer)
    comparable = found.comparable
    labels, text, own = (
        found.labels.chosen(comparable),
        found.text[:, comparable],
        found.own[:, comparable],
    )
    drawn = bool(torch.isfinite(text[place]).all())
    return replace(
        measurements,
        separability=(
            *separability_of(areas_at(labels, own), "own", layers),
            # Of plain text alone, both directions are the same.
            *(
                separability_of(areas_at(labels, text), "plain text", layers)
                if len(found.complete) > 1
                else ()
            ),
        ),
        cosines=cosines_of(found.cosines, layers),
        projections=projections_of(found.labels, found.text[[place]], [layer]) if drawn else (),
        dissolution=dissolution_of(dissolution_at(found.labels, found.text), layers),
        shrinkage=shrinkage_of(shrinkage_between(found.vectors, found.learnt), layers),
        roc=roc_of(roc_curves_at(labels, text[place])) if drawn else (),
        notes=(*_notes(found, layer, drawn=drawn), *measurements.notes),
    )


def _notes(found: Survey, layer: int, *, drawn: bool) -> Iterator[str]:
    yield _HOW[found.how].format(measured=len(found.labels.forms))
    yield (
        f"Plain text is the form {found.labels.reference!r}; ROC curves, projections and the "
        f"picture of cosines are those of layer {layer}."
    )
    if not drawn:
        yield (
            f"Layer {layer} has no direction: the harmful and the harmless mean of "
            f"{found.labels.reference!r} are the same there."
        )
    for form in found.incomplete:
        yield (
            f"{form} has no direction and no areas of its own: that takes two harmful and two "
            "harmless rows to learn from, and one of each to measure."
        )
