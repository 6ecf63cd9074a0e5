"""Which rows make a frame, and which are measured in it: never the same ones.

In thousands of dimensions a few hundred rows of pure noise always come apart along their own
difference of means, so every position is that of a row that took no part in its frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from refusal_steering.analysis.phenomena import PhenomenaError, RowLabels, label_of

How = Literal["held", "tune", "folds"]
_FOLDS = 5
# Fewer rows of a label have no difference of means worth the name, and cannot be divided.
_FEWEST = 2


@dataclass(frozen=True, slots=True, eq=False)
class Division:
    """Pairs of masks [N]: rows that learn a frame, and rows that are measured in it.

    A measured row is in one pair, and is none of those that learn there. ``how`` says by what the
    rows were divided: the split that is measured, or folds of a cross-validation.
    """

    how: How
    pairs: tuple[tuple[Tensor, Tensor], ...]

    @property
    def learning(self) -> Tensor:
        """Mask [N] of the rows that learn in any pair."""
        return torch.stack([learn for learn, _ in self.pairs]).any(0)

    @property
    def measured(self) -> Tensor:
        """Mask [N] of all rows that are measured."""
        return torch.stack([measured for _, measured in self.pairs]).any(0)

    def complete(self, labels: RowLabels) -> tuple[str, ...]:
        """The forms that can learn a direction of their own and be measured along it."""
        learning, measured = self.learning, self.measured
        return tuple(
            form
            for form in labels.form_names
            if all(
                int((labels.mask(form, harmful) & learning).sum()) >= _FEWEST
                and bool((labels.mask(form, harmful) & measured).any())
                for harmful in (True, False)
            )
        )


def divided(labels: RowLabels, splits: Sequence[str]) -> Division:
    """Training rows against those held out, or for tuning; folds of all rows where neither can be.

    Raises :class:`PhenomenaError` where the reference form is too small for any of it.
    """
    train = _in(splits, "train")
    ways: tuple[How, ...] = ("held", "tune")
    for how in ways:
        division = Division(how, ((train, _in(splits, how)),))
        if labels.reference in division.complete(labels):
            return division
    return folded(labels, torch.ones(len(splits), dtype=torch.bool))


def folded(labels: RowLabels, within: Tensor) -> Division:
    """Folds of the rows ``within`` a mask [N]: each is measured against all others.

    The n-th rows of all forms and labels share a fold, so that a request that stands in several
    forms, in the same order, is never learnt in one and measured in another.
    """
    counts = {
        harmful: int((labels.mask(labels.reference, harmful) & within).sum())
        for harmful in (True, False)
    }
    for harmful, count in counts.items():
        if count < _FEWEST:
            raise PhenomenaError(
                f"form {labels.reference!r} has {count} {label_of(harmful)} rows to measure with; "
                f"it takes {_FEWEST} of each label. Collect more, or name another form of text"
            )
    number = min(_FOLDS, *counts.values())
    fold = torch.full((len(labels.forms),), -1)
    for form in labels.form_names:
        for harmful in (True, False):
            cell = (labels.mask(form, harmful) & within).nonzero().flatten()
            fold[cell] = torch.arange(len(cell)) % number
    parts = [fold == part for part in range(number)]
    return Division("folds", tuple((within & ~part, part) for part in parts))


def _in(splits: Sequence[str], name: str) -> Tensor:
    return torch.tensor([split == name for split in splits], dtype=torch.bool)
