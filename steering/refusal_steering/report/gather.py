"""From the phenomena of residual rows to what a report shows of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from refusal_steering.analysis.areas import FormAreas, area_interval, areas_at
from refusal_steering.analysis.cosines import Cosines
from refusal_steering.analysis.dissolution import DissolutionCurve, dissolution_at
from refusal_steering.analysis.division import How
from refusal_steering.analysis.phenomena import RowLabels, label_of
from refusal_steering.analysis.separability import RocCurve, roc_curves_at
from refusal_steering.analysis.shrinkage import Shrinkage, shrinkage_between
from refusal_steering.analysis.survey import Survey
from refusal_steering.report.measurements import Measurements
from refusal_steering.report.phenomena import (
    CosineMatrix,
    Direction,
    Dissolution,
    Projections,
    Roc,
    Separability,
    ShrinkageRow,
)

_HOW: dict[How, str] = {
    "held": "Directions come from the training rows; areas, positions and curves are those of "
    "{measured} held-out rows.",
    "tune": "Nothing was held out: directions come from the training rows; areas, positions and "
    "curves are those of {measured} rows for tuning.",
    "folds": "The rows have no splits to measure on, so every one of {measured} is measured "
    "against directions of other rows, by cross-validation; lengths and cosines come from all.",
}


def projections_of(
    labels: RowLabels, places: Tensor, layers: Sequence[int]
) -> tuple[Projections, ...]:
    """Positions [L, N] of rows after each of L ``layers`` for every form and label."""
    return tuple(
        Projections.sampled(layer, form, label_of(harmful), placed[mask].tolist())
        for layer, placed in zip(layers, places, strict=True)
        for form in labels.form_names
        for harmful in (True, False)
        if bool((mask := labels.mask(form, harmful)).any())
    )


def dissolution_of(
    curves: Iterable[DissolutionCurve], layers: Sequence[int]
) -> tuple[Dissolution, ...]:
    """Curves over ``layers``."""
    return tuple(
        Dissolution(
            curve.form,
            curve.label,
            curve.items,
            tuple(layers),
            tuple(map(_known, curve.positions)),
        )
        for curve in curves
    )


def shrinkage_of(results: Iterable[Shrinkage], layers: Sequence[int]) -> tuple[ShrinkageRow, ...]:
    """A row for each form and each of ``layers``."""
    return tuple(
        ShrinkageRow(
            result.form,
            layer,
            _known(result.rho[place]),
            _known(result.cosine[place]),
            _known(result.ratio[place]),
            _known(result.magnitude_share[place]),
        )
        for result in results
        for place, layer in enumerate(layers)
    )


def roc_of(curves: Iterable[RocCurve]) -> tuple[Roc, ...]:
    """Curves at the layer they were taken from."""
    return tuple(Roc(curve.name, curve.fpr, curve.tpr, curve.auc) for curve in curves)


def separability_of(
    found: Iterable[FormAreas], along: Direction, layers: Sequence[int]
) -> tuple[Separability, ...]:
    """Areas over ``layers`` with their intervals."""
    return tuple(_separability(one, along, layers) for one in found)


def _separability(one: FormAreas, along: Direction, layers: Sequence[int]) -> Separability:
    known = [_known(area) for area in one.areas]
    intervals = [
        (None, None) if area is None else area_interval(area, one.harmful, one.harmless)
        for area in known
    ]
    return Separability(
        one.form,
        along,
        one.harmful,
        one.harmless,
        tuple(layers),
        tuple(known),
        tuple(low for low, _ in intervals),
        tuple(high for _, high in intervals),
    )


def cosines_of(found: Iterable[Cosines], layers: Sequence[int]) -> tuple[CosineMatrix, ...]:
    """A matrix for each of ``layers``."""
    return tuple(
        CosineMatrix(
            layer,
            one.forms,
            tuple(tuple(map(_known, row)) for row in one.between),
            tuple(map(_known, one.halves)),
        )
        for layer, one in zip(layers, found, strict=True)
    )


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


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
