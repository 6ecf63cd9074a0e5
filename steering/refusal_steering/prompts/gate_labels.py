"""What is known of the conversations that a prompt gate learns from, beside their words."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor

ABOUT = "about: "
"""Families with this prefix are harmless tasks about harm."""
LANGUAGE = "language-"
"""Families with this prefix are requests in one other language than English."""
TWIN = "twin-of-"
"""Items with this prefix are borderline and written to resemble one harmful item each."""


@dataclass(frozen=True, slots=True)
class GateLabel:
    """One conversation; ``harmful`` is whether the gate should open for it.

    ``tuning`` ones set the threshold and train nothing. ``borderline`` ones sound harmful and are
    not.
    """

    item_id: str
    family: str
    harmful: bool
    tuning: bool
    borderline: bool

    @property
    def twin(self) -> bool:
        """Whether it was written to resemble a harmful one."""
        return self.item_id.startswith(TWIN)

    @property
    def everyday(self) -> bool:
        """Whether it is neither borderline nor a task about harm."""
        return not self.borderline and not self.family.startswith(ABOUT)


@dataclass(frozen=True, slots=True)
class GateLabels:
    """Labels in order, with masks and weights [N] over them."""

    all: tuple[GateLabel, ...]

    @property
    def harmful(self) -> Tensor:
        """Mask of the conversations for which the gate should open."""
        return torch.tensor([label.harmful for label in self.all])

    @property
    def tuning(self) -> Tensor:
        """Mask of those that set the threshold and train nothing."""
        return torch.tensor([label.tuning for label in self.all])

    @property
    def everyday(self) -> Tensor:
        """Mask of those that are neither borderline nor about harm."""
        return torch.tensor([label.everyday for label in self.all])

    @property
    def one_per_item(self) -> Tensor:
        """Mask of one conversation for each item, so that the chosen ones are independent."""
        order = list(range(len(self.all)))
        random.Random(len(order)).shuffle(order)
        chosen: dict[str, int] = {}
        for place in order:
            chosen.setdefault(self.all[place].item_id, place)
        mask = torch.zeros(len(self.all), dtype=torch.bool)
        mask[list(chosen.values())] = True
        return mask

    def weight(self, about: float, language: float, borderline: float, twin: float) -> Tensor:
        """Weights that make families count alike within a label, but for four kinds.

        ``about`` is the weight of a family of harmless tasks about harm, ``language`` that of one
        other language than English. ``borderline`` is a factor for borderline requests, ``twin``
        for those that are twins of harmful ones.
        """
        cells = Counter((label.family, label.harmful) for label in self.all)
        shares = {family: _share(family, about, language) for family, _ in cells}
        return torch.tensor(
            [
                shares[label.family]
                * (twin if label.twin else borderline if label.borderline else 1.0)
                / cells[label.family, label.harmful]
                for label in self.all
            ]
        )


def _share(family: str, about: float, language: float) -> float:
    if family.startswith(LANGUAGE):
        return language
    return about if family.startswith(ABOUT) else 1.0
