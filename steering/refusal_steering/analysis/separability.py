"""Separability: how well the direction of plain text tells harmful from harmless, in any form."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from sklearn.metrics import roc_auc_score, roc_curve
from torch import Tensor

from refusal_steering.analysis.phenomena import (
    LabelledRows,
    PhenomenaError,
    PlainData,
    TextFrame,
    floats,
)

POOLED = "all forms"
RECENTRED = "all forms, re-centred"


@dataclass(frozen=True, slots=True)
class Separability(PlainData):
    """Areas under the ROC curve of the projection on the plain direction, one number per layer.

    ``forms`` maps a form to its own area; ``pooled`` takes all rows together as they are, so that
    a form that lies higher as a whole costs area; ``recentred`` first moves the harmless mean of
    each form to 0. NaN in a layer where the frame's two means are the same.
    """

    forms: dict[str, tuple[float, ...]]
    pooled: tuple[float, ...]
    recentred: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class RocCurve(PlainData):
    """Share of harmless (``fpr``) and of harmful (``tpr``) rows above each threshold, falling."""

    name: str
    fpr: tuple[float, ...]
    tpr: tuple[float, ...]
    auc: float


def separability(sample: LabelledRows, frame: TextFrame | None = None) -> Separability:
    """Areas for each form, pooled, and pooled after re-centring; all forms need both labels."""
    places = (frame or TextFrame.of(sample)).place(sample.rows).cpu()
    areas = {
        name: tuple(auroc(scores[mask], harmful) for scores in layers)
        for name, layers, mask, harmful in _views(sample, places)
    }
    pooled, recentred = areas.pop(POOLED), areas.pop(RECENTRED)
    return Separability(areas, pooled, recentred)


def roc_curves(
    sample: LabelledRows, layer: int, frame: TextFrame | None = None
) -> tuple[RocCurve, ...]:
    """Curves at one layer: each form, pooled, and pooled after re-centring."""
    places = (frame or TextFrame.of(sample)).place(sample.rows).cpu()
    if not bool(torch.isfinite(places[layer]).all()):
        raise PhenomenaError(
            f"layer {layer} has no direction: the harmful and the harmless mean of plain text are "
            f"the same there. Choose another layer."
        )
    curves = []
    for name, layers, mask, harmful in _views(sample, places):
        scores = layers[layer][mask]
        fpr, tpr, _ = roc_curve(harmful.numpy(), scores.numpy())
        curves.append(RocCurve(name, floats(fpr), floats(tpr), auroc(scores, harmful)))
    return tuple(curves)


def auroc(scores: Tensor, harmful: Tensor) -> float:
    """Chance that a harmful row scores above a harmless one; NaN if a score is no number."""
    if not bool(torch.isfinite(scores).all()):
        return math.nan
    return float(roc_auc_score(harmful.numpy(), scores.numpy()))


def _views(sample: LabelledRows, places: Tensor) -> Iterator[tuple[str, Tensor, Tensor, Tensor]]:
    """Name, positions [L, N], mask [N] of the rows that count, and their labels."""
    labels, recentred = sample.harmful.cpu(), places.clone()
    for form in sample.form_names:
        harmless = sample.members(form, False).cpu()
        mask = harmless | sample.members(form, True).cpu()
        recentred[:, mask] -= places[:, harmless].mean(-1, keepdim=True)
        yield form, places, mask, labels[mask]
    everything = torch.ones_like(labels)
    yield POOLED, places, everything, labels
    yield RECENTRED, recentred, everything, labels
