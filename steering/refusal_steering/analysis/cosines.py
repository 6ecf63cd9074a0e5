"""Cosines between the refusal vectors of forms, and between two halves of each form's own rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from refusal_steering.analysis.phenomena import RowLabels, floats


@dataclass(frozen=True, slots=True)
class Cosines:
    """Cosines [G][G] between ``forms`` after one layer; NaN where a vector is empty.

    ``halves`` [G] are the cosines between the vectors of two halves of a form's own rows: near 0,
    the form's direction is noise, and so are its cosines to others.
    """

    forms: tuple[str, ...]
    between: tuple[tuple[float, ...], ...]
    halves: tuple[float, ...]


def cosines_of(vectors: Mapping[str, Tensor], halves: Mapping[str, float]) -> Cosines:
    """Of the refusal vectors [H] of forms after one layer."""
    stacked = torch.stack(list(vectors.values()))
    units = stacked / stacked.norm(dim=-1, keepdim=True)
    between = (units @ units.T).clamp(-1.0, 1.0)
    return Cosines(
        tuple(vectors), tuple(map(floats, between)), tuple(halves[form] for form in vectors)
    )


def half_cosine(rows: Tensor, labels: RowLabels, form: str) -> float:
    """Cosine between the refusal vectors of every second row of a form and of the others.

    ``rows`` is [N, H]; NaN where a half lacks a label.
    """
    vectors = []
    for half in (0, 1):
        harmful, harmless = (
            rows[labels.mask(form, label).nonzero().flatten()[half::2]].double().mean(0)
            for label in (True, False)
        )
        vectors.append(harmful - harmless)
    return float(vectors[0] @ vectors[1] / (vectors[0].norm() * vectors[1].norm()))
