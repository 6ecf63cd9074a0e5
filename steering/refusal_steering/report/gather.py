"""From the phenomena of residual rows to what a report shows of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from refusal_steering.analysis.dissolution import DissolutionCurve
from refusal_steering.analysis.phenomena import LabelledRows, TextFrame, label_of
from refusal_steering.analysis.separability import RocCurve
from refusal_steering.analysis.shrinkage import Shrinkage
from refusal_steering.report.measurements import (
    Dissolution,
    Projections,
    Roc,
    ShrinkageRow,
)


def projections_of(
    sample: LabelledRows, layers: Sequence[int], frame: TextFrame | None = None
) -> tuple[Projections, ...]:
    """Positions after each of ``layers`` for every form and label of ``sample``."""
    places = (frame or TextFrame.of(sample)).place(sample.rows)
    return tuple(
        Projections.sampled(
            layer, form, label_of(harmful), places[layer, sample.members(form, harmful)].tolist()
        )
        for layer in layers
        for form in sample.form_names
        for harmful in (True, False)
        if sample.has(form, harmful)
    )


def dissolution_of(curves: Iterable[DissolutionCurve]) -> tuple[Dissolution, ...]:
    """Curves over all layers, counted from 0."""
    return tuple(
        Dissolution(
            curve.form,
            curve.label,
            curve.items,
            tuple(range(len(curve.positions))),
            tuple(map(_known, curve.positions)),
        )
        for curve in curves
    )


def shrinkage_of(results: Iterable[Shrinkage]) -> tuple[ShrinkageRow, ...]:
    """A row for each form and layer."""
    return tuple(
        ShrinkageRow(
            result.form,
            layer,
            _known(result.rho[layer]),
            _known(result.cosine[layer]),
            _known(result.ratio[layer]),
            _known(result.magnitude_share[layer]),
        )
        for result in results
        for layer in range(len(result.rho))
    )


def roc_of(curves: Iterable[RocCurve]) -> tuple[Roc, ...]:
    """Curves at the layer they were taken from."""
    return tuple(Roc(curve.name, curve.fpr, curve.tpr, curve.auc) for curve in curves)


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
