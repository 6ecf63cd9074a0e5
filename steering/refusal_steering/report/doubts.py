"""Forms that are not told apart, and what a page calls them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from refusal_steering.report.measurements import Heard, Measurements
from refusal_steering.report.outcomes import Coefficients
from refusal_steering.report.phenomena import (
    Dissolution,
    Projections,
    Separability,
    ShrinkageRow,
)

Figure = TypeVar(
    "Figure", Coefficients, Dissolution, Heard, Projections, Separability, ShrinkageRow
)
_CHANCE = 0.5
_LONGEST_NAME = 200
_NOTE = (
    "A form marked as not told apart may be noise to the model: along its own direction its "
    "requests are not surely ranked better than by chance, so that length and cosines say little."
)


def with_doubts(m: Measurements) -> Measurements:
    """The same measurements with the forms marked that are not told apart, and what that means."""
    names = {form: f"{form} (not told apart)"[:_LONGEST_NAME] for form in _doubted(m)}
    if not names:
        return m
    return replace(
        m,
        heard=_marked(m.heard, names),
        separability=_marked(m.separability, names),
        cosines=tuple(
            replace(matrix, forms=tuple(names.get(form, form) for form in matrix.forms))
            for matrix in m.cosines
        ),
        projections=_marked(m.projections, names),
        dissolution=_marked(m.dissolution, names),
        shrinkage=_marked(m.shrinkage, names),
        roc=tuple(replace(curve, name=names.get(curve.name, curve.name)) for curve in m.roc),
        coefficients=_marked(m.coefficients, names),
        notes=(_NOTE, *m.notes),
    )


def _doubted(m: Measurements) -> list[str]:
    """Forms that the build did not learn from; without a build, whose interval holds chance."""
    if m.heard:
        return [one.form for one in m.heard if not one.learnt]
    layers = {group.layer for group in m.projections}
    return [
        curve.form
        for curve in m.separability
        if curve.along == "own"
        and any(
            layer in layers and low is not None and low <= _CHANCE
            for layer, low in zip(curve.layers, curve.low, strict=True)
        )
    ]


def _marked(figures: Sequence[Figure], names: Mapping[str, str]) -> tuple[Figure, ...]:
    return tuple(replace(one, form=names.get(one.form, one.form)) for one in figures)
