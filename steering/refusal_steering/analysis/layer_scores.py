"""Scores by which one layer is chosen for a single-layer strategy, from plain text alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from refusal_steering.analysis.phenomena import (
    LabelledRows,
    PhenomenaError,
    TextFrame,
    floats,
)
from refusal_steering.analysis.separability import auroc

# A spread this small is rounding of equal scores.
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class LayerScores:
    """Three scores per layer and their sum in standard deviations (arXiv 2606.31876, in words).

    ``consistency``: mean cosine between a harmful row, seen from the harmless mean, and the
    direction. ``separability``: area under the ROC curve. ``margin``: 5 % quantile of the harmful
    minus 95 % quantile of the harmless positions, in distances between the means; negative where
    they overlap. ``total`` is NaN for layers that were no candidates; ``best`` has the highest.
    """

    consistency: tuple[float, ...]
    separability: tuple[float, ...]
    margin: tuple[float, ...]
    total: tuple[float, ...]
    best: int


def layer_scores(sample: LabelledRows, frame: TextFrame, usable: float = 0.8) -> LayerScores:
    """Scores of the reference form's rows; candidates are the first ``usable`` share of layers.

    ``frame`` is of other rows than ``sample``: its own rows come apart in every layer of a wide
    model, whatever they are. A layer where its two means are the same is no candidate.
    """
    harmful = sample.labels.members(sample.reference, True)
    harmless = sample.labels.members(sample.reference, False)
    places = frame.place(sample.rows).cpu()
    consistency = _consistency(sample.rows[:, harmful], frame)
    area = _separability(places, harmful.cpu(), harmless.cpu())
    margin = _margin(places[:, harmful.cpu()], places[:, harmless.cpu()])
    total = _summed(torch.stack([consistency, area, margin]), usable)
    return LayerScores(
        consistency=floats(consistency),
        separability=floats(area),
        margin=floats(margin),
        total=floats(total),
        best=int(total.nan_to_num(-torch.inf).argmax()),
    )


def best_neighbours(scores: Mapping[int, float], count: int) -> list[int]:
    """The ``count`` layers next to each other, among those with a score, whose sum is largest.

    All of them where there are no more than ``count``.
    """
    known = sorted(scores)
    runs = [known[start : start + count] for start in range(len(known) - count + 1)]
    return max(runs, key=lambda run: sum(scores[layer] for layer in run), default=known)


def _consistency(rows: Tensor, frame: TextFrame) -> Tensor:
    cosines = [
        torch.cosine_similarity(layer.double() - mean, vector[None], dim=-1).mean()
        for layer, mean, vector in zip(rows, frame.safe_mean, frame.vector, strict=True)
    ]
    return torch.stack(cosines).cpu()


def _separability(places: Tensor, harmful: Tensor, harmless: Tensor) -> Tensor:
    either = harmful | harmless
    areas = [auroc(layer[either], harmful[either]) for layer in places]
    return torch.tensor(areas, dtype=torch.float64)


def _margin(harmful: Tensor, harmless: Tensor) -> Tensor:
    return harmful.quantile(0.05, dim=-1) - harmless.quantile(0.95, dim=-1)


def _summed(scores: Tensor, usable: float) -> Tensor:
    """Sum of z-scores [L] over the candidates; a score that never varies decides nothing."""
    layers = scores.shape[1]
    candidate = scores.isfinite().all(0) & (torch.arange(layers) < usable * layers)
    if not bool(candidate.any()):
        raise PhenomenaError(
            f"none of {layers} layers can be scored with usable={usable}; in each candidate the "
            f"harmful and the harmless mean of plain text are the same. Collect other rows."
        )
    chosen = scores[:, candidate]
    spread = chosen.std(1, correction=0, keepdim=True)
    centred = chosen - chosen.mean(1, keepdim=True)
    total = torch.full((layers,), torch.nan, dtype=torch.float64)
    total[candidate] = torch.where(spread > _ROUNDING, centred / spread, 0.0).sum(0)
    return total
