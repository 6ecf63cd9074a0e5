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
    RowLabels,
    TextFrame,
    floats,
)

POOLED = "all forms"
RECENTRED = "all forms, re-centred"


@dataclass(frozen=True, slots=True)
class RocCurve:
    """Share of harmless (``fpr``) and of harmful (``tpr``) rows above each threshold, falling."""

    name: str
    fpr: tuple[float, ...]
    tpr: tuple[float, ...]
    auc: float


def roc_curves(
    sample: LabelledRows, layer: int, frame: TextFrame | None = None
) -> tuple[RocCurve, ...]:
    """Curves at one layer; all forms need both labels.

    Raises :class:`PhenomenaError` for a layer where the frame's two means are the same.
    """
    places = (frame or TextFrame.of(sample)).place(sample.rows)[layer]
    if not bool(torch.isfinite(places).all()):
        raise PhenomenaError(
            f"layer {layer} has no direction: the harmful and the harmless mean of plain text are "
            f"the same there. Choose another layer."
        )
    return roc_curves_at(sample.labels, places)


def roc_curves_at(labels: RowLabels, places: Tensor) -> tuple[RocCurve, ...]:
    """Curves of rows whose finite positions [N] are known; all forms need both labels.

    One for each form. Of several forms, :data:`POOLED` takes all rows as they are, so that a form
    that lies higher as a whole costs area; :data:`RECENTRED` first moves the harmless mean of each
    form to 0.
    """
    curves = []
    for name, scores, harmful in _views(labels, places.cpu()):
        fpr, tpr, _ = roc_curve(harmful.numpy(), scores.numpy())
        curves.append(RocCurve(name, floats(fpr), floats(tpr), auroc(scores, harmful)))
    return tuple(curves)


def auroc(scores: Tensor, harmful: Tensor) -> float:
    """Chance that a harmful row scores above a harmless one; NaN if a score is no number."""
    if not bool(torch.isfinite(scores).all()):
        return math.nan
    return float(roc_auc_score(harmful.numpy(), scores.numpy()))


def _views(labels: RowLabels, places: Tensor) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Name of a curve, and positions and labels of the rows [N] that it is about."""
    harmful, recentred = labels.harmful.cpu(), places.clone()
    for form in labels.form_names:
        harmless = labels.members(form, False).cpu()
        mask = harmless | labels.members(form, True).cpu()
        recentred[mask] -= places[harmless].mean()
        yield form, places[mask], harmful[mask]
    if len(labels.form_names) > 1:
        yield POOLED, places, harmful
        yield RECENTRED, recentred, harmful
