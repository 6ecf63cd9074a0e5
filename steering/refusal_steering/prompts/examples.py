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
    Form,
    Item,
    render,
    trained_wordings,
)

# How often a form comes in its first wording, which is how it is mostly met.
_USUAL: dict[Form, float] = {"plain": 1.0, "carrier": 0.0, "list": 0.3, "role": 0.0}
# Borderline wordings are a third of the set, and rare in earnest: at full weight they make the
# adapters miss harm.
_BORDERLINE_WEIGHT = 0.2
_FRAMES = 8


@dataclass(frozen=True, slots=True)
class Lesson:
    """One prompt of an item; everyday lessons are those without borderline wording."""

    item: Item
    form: Form
    prompt: str


@dataclass(frozen=True, slots=True)
class Lessons:
    """Lessons in order, with masks and weights [N] over them."""

    all: tuple[Lesson, ...]
    seed: int = 0

    @classmethod
    def draw(cls, items: Iterable[Item], seed: int, forms: Collection[Form] = FORMS) -> Lessons:
        """Pick wordings and frames by chance; held-out items are left out."""
        rng = random.Random(seed)
        usable = [item for item in items if item.split != "held"]
        drawn = (lesson for item in usable for lesson in _lessons_of(item, rng))
        return cls(tuple(lesson for lesson in drawn if lesson.form in forms), seed)

    def where(self, mask: Tensor) -> Lessons:
        """The lessons under a mask, in order."""
        chosen = mask.nonzero().flatten().tolist()
        return Lessons(tuple(self.all[place] for place in chosen), self.seed)

    @property
    def prompts(self) -> list[str]:
        """The user messages."""
        return [lesson.prompt for lesson in self.all]

    @property
    def harmful(self) -> Tensor:
        """Mask of the lessons to refuse."""
        return torch.tensor([lesson.item.harmful for lesson in self.all])

    @property
    def tuning(self) -> Tensor:
        """Mask of the lessons that set thresholds and train nothing."""
        return torch.tensor([lesson.item.split == "tune" for lesson in self.all])

    @property
    def own_turn(self) -> Tensor:
        """Mask of one lesson per item: requests that are independent of each other."""
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
        """Mask of plain lessons that nobody could mistake; the direction comes from them."""
        return torch.tensor(
            [lesson.form == "plain" and lesson.item.domain != "borderline" for lesson in self.all]
        )

    @property
    def everyday(self) -> Tensor:
        """Mask of the lessons whose wording could not be mistaken for harm."""
        return torch.tensor([lesson.item.domain != "borderline" for lesson in self.all])

    def harmful_sample(self, count: int, seed: int) -> list[str]:
        """Prompts of at most ``count`` harmful training lessons, any form."""
        usable = [
            lesson.prompt
            for lesson in self.all
            if lesson.item.harmful and lesson.item.split == "train"
        ]
        return random.Random(seed).sample(usable, min(count, len(usable)))

    @property
    def weight(self) -> Tensor:
        """Weights that make every form count alike within a label; borderline ones count less."""
        cells = Counter((lesson.form, lesson.item.label) for lesson in self.all)
        share = {True: 1.0, False: _BORDERLINE_WEIGHT}
        return torch.tensor(
            [
                share[everyday] / cells[lesson.form, lesson.item.label]
                for lesson, everyday in zip(self.all, self.everyday.tolist(), strict=True)
            ]
        )


def _lessons_of(item: Item, rng: random.Random) -> list[Lesson]:
    lessons = []
    for form, usual in _USUAL.items():
        known = trained_wordings(form)
        wording = known[0] if rng.random() < usual else rng.choice(known)
        frame = rng.randrange(_FRAMES)
        lessons.append(Lesson(item, form, render(item, form, wording, frame)))
    return lessons
