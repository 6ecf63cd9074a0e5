"""From the phenomena of residual rows to what a report shows of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from torch import Tensor

from refusal_steering.analysis.areas import FormAreas, area_interval
from refusal_steering.analysis.cosines import Cosines
from refusal_steering.analysis.dissolution import DissolutionCurve
from refusal_steering.analysis.phenomena import RowLabels, label_of
from refusal_steering.analysis.separability import RocCurve
from refusal_steering.analysis.shrinkage import Shrinkage
from refusal_steering.report.phenomena import (
    CosineMatrix,
    Direction,
    Dissolution,
    Projections,
    Roc,
    Separability,
    ShrinkageRow,
)


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


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
