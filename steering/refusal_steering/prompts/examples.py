"""The prompts that training sees: every train and tune item once in every form."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from refusal_steering.prompts.contrast_set import (
    FORMS,
    AttackForm,
    Item,
    render,
    trained_templates,
)

# How often a form comes in its first template, which is how it is mostly met.
_USUAL: dict[AttackForm, float] = {"plain": 1.0, "carrier": 0.0, "list": 0.3, "role": 0.0}
# Borderline templates are a third of the set, and rare in real traffic: at full weight they make
# the adapters miss harm.
_BORDERLINE_WEIGHT = 0.2
_FRAMES = 8


@dataclass(frozen=True, slots=True)
class Example:
    """One prompt of an item; everyday examples are those without borderline template."""

    item: Item
    form: AttackForm
    prompt: str


@dataclass(frozen=True, slots=True)
class Examples:
    """Examples in order, with masks and weights [N] over them."""

    all: tuple[Example, ...]
    seed: int = 0

    @classmethod
    def draw(
        cls, items: Iterable[Item], seed: int, forms: Collection[AttackForm] = FORMS
    ) -> Examples:
        """Pick templates and frames by chance; held-out items are left out."""
        rng = random.Random(seed)
        usable = [item for item in items if item.split != "held"]
        drawn = (example for item in usable for example in _examples_of(item, rng))
        return cls(tuple(example for example in drawn if example.form in forms), seed)

    def where(self, mask: Tensor) -> Examples:
        """The examples under a mask, in order."""
        chosen = mask.nonzero().flatten().tolist()
        return Examples(tuple(self.all[place] for place in chosen), self.seed)

    @property
    def prompts(self) -> list[str]:
        """The user messages."""
        return [example.prompt for example in self.all]

    @property
    def harmful(self) -> Tensor:
        """Mask of the examples to refuse."""
        return torch.tensor([example.item.harmful for example in self.all])

    @property
    def tuning(self) -> Tensor:
        """Mask of the examples that set thresholds and train nothing."""
        return torch.tensor([example.item.split == "tune" for example in self.all])

    @property
    def one_per_item(self) -> Tensor:
        """Mask of one example per item: requests that are independent of each other."""
        chosen: dict[str, int] = {}
        order = list(range(len(self.all)))
        random.Random(self.seed).shuffle(order)
        for place in order:
            chosen.setdefault(self.all[place].item.id, place)
        mask = torch.zeros(len(self.all), dtype=torch.bool)
        mask[list(chosen.values())] = True
        return mask

    @property
    def clear(self) -> Tensor:
        """Mask of plain examples that are not borderline; the direction comes from them."""
        return torch.tensor(
            [
                example.form == "plain" and example.item.domain != "borderline"
                for example in self.all
            ]
        )

    @property
    def everyday(self) -> Tensor:
        """Mask of the examples that are not borderline."""
        return torch.tensor([example.item.domain != "borderline" for example in self.all])

    def harmful_sample(self, count: int, seed: int) -> list[str]:
        """Prompts of at most ``count`` harmful training examples, any form."""
        usable = [
            example.prompt
            for example in self.all
            if example.item.harmful and example.item.split == "train"
        ]
        return random.Random(seed).sample(usable, min(count, len(usable)))

    @property
    def weight(self) -> Tensor:
        """Weights that give every form the same sum within a label; borderline ones count less."""
        cells = Counter((example.form, example.item.label) for example in self.all)
        share = {True: 1.0, False: _BORDERLINE_WEIGHT}
        return torch.tensor(
            [
                share[everyday] / cells[example.form, example.item.label]
                for example, everyday in zip(self.all, self.everyday.tolist(), strict=True)
            ]
        )


def _examples_of(item: Item, rng: random.Random) -> list[Example]:
    examples = []
    for form, usual in _USUAL.items():
        known = trained_templates(form)
        template = known[0] if rng.random() < usual else rng.choice(known)
        frame = rng.randrange(_FRAMES)
        examples.append(Example(item, form, render(item, form, template, frame)))
    return examples
