"""Areas under ROC curves by form and layer, with intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from scipy.optimize import brentq
from scipy.stats import norm
from torch import Tensor

from refusal_steering.analysis.phenomena import RowLabels, floats
from refusal_steering.analysis.separability import auroc

_Z = float(norm.ppf(0.975))
_TINY = 1e-9


@dataclass(frozen=True, slots=True)
class FormAreas:
    """Areas of a form's rows, one per layer; NaN where a layer has no direction."""

    form: str
    harmful: int
    harmless: int
    areas: tuple[float, ...]


def areas_at(labels: RowLabels, places: Tensor) -> Iterator[FormAreas]:
    """Areas of the positions [L, N] of rows; all forms need both labels."""
    for form in labels.form_names:
        rows, harmful = labels.of_form(form), labels.members(form, True)
        of_form, count = harmful[rows], int(harmful.sum())
        found = [auroc(layer[rows], of_form) for layer in places]
        yield FormAreas(form, count, len(of_form) - count, floats(found))


def area_interval(area: float, harmful: int, harmless: int) -> tuple[float, float]:
    """Score interval of an area at 95 % (Newcombe 2006, method 5), for independent rows.

    It is to an area what Wilson's interval is to a share: it does not shrink to a point at 0 or 1.
    """
    return _bound(area, harmful, harmless, 0.0), _bound(area, harmful, harmless, 1.0)


def _bound(area: float, harmful: int, harmless: int, end: float) -> float:
    """The area farthest towards ``end`` from which ``area`` is no surprise."""
    if area == end:
        return end

    def surprise(true: float) -> float:
        return abs(area - true) - _Z * _deviation(true, harmful, harmless)

    # The deviation is 0 at both ends: an end is no root worth finding.
    start = min(max(area, _TINY), 1.0 - _TINY)
    return float(brentq(surprise, start, end))


def _deviation(area: float, harmful: int, harmless: int) -> float:
    """Standard deviation of an estimate of ``area``, with both sizes balanced in the correction."""
    balanced = (harmful + harmless) / 2 - 1
    terms = 1 + balanced * ((1 - area) / (2 - area) + area / (1 + area))
    return math.sqrt(area * (1 - area) * terms / (harmful * harmless))


def best_layer(areas: Tensor, usable: float) -> int:
    """Place of the largest of ``areas`` [L] in the first ``usable`` share of them."""
    candidates = areas[: max(1, int(usable * len(areas)))]
    return int(torch.nan_to_num(candidates, nan=-1.0).argmax())
