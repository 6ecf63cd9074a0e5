"""Training sees neither held-out items nor wordings kept for previews."""

from __future__ import annotations

from collections import Counter

import torch

from refusal_steering.prompts.contrast_set import load_items
from refusal_steering.prompts.examples import Lessons

LESSONS = Lessons.draw(load_items(), seed=0)


def test_no_held_item_is_taught() -> None:
    assert {lesson.item.split for lesson in LESSONS.all} == {"train", "tune"}


def test_the_kept_list_wording_is_not_taught() -> None:
    assert not any("completing these three lines" in prompt for prompt in LESSONS.prompts)


def test_drawing_repeats_itself() -> None:
    assert Lessons.draw(load_items(), seed=0).prompts == LESSONS.prompts
    assert Lessons.draw(load_items(), seed=1).prompts != LESSONS.prompts


def test_forms_weigh_alike_within_a_label() -> None:
    sums: Counter[tuple[str, str]] = Counter()
    for lesson, weight in zip(LESSONS.all, LESSONS.weight.tolist(), strict=True):
        sums[lesson.form, lesson.item.label] += weight
    for label in ("harmful", "harmless"):
        of_label = torch.tensor([total for (_, own), total in sums.items() if own == label])
        torch.testing.assert_close(of_label, of_label[:1].expand(len(of_label)))


def test_borderline_wordings_weigh_less_than_everyday_ones() -> None:
    weights: dict[bool, set[float]] = {True: set(), False: set()}
    for lesson, weight in zip(LESSONS.all, LESSONS.weight.tolist(), strict=True):
        if lesson.form == "plain" and not lesson.item.harmful:
            weights[lesson.item.domain == "borderline"].add(round(weight, 9))
    assert len(weights[True]) == len(weights[False]) == 1
    assert max(weights[True]) < 0.5 * min(weights[False])


def test_one_lesson_of_each_item_has_its_own_turn() -> None:
    chosen = [
        lesson.item.id for lesson, own in zip(LESSONS.all, LESSONS.own_turn, strict=True) if own
    ]
    assert len(chosen) == len(set(chosen)) == len({lesson.item.id for lesson in LESSONS.all})
    forms = Counter(
        lesson.form for lesson, own in zip(LESSONS.all, LESSONS.own_turn, strict=True) if own
    )
    assert min(forms.values()) > 0.05 * len(chosen)


def test_refinement_sees_only_harmful_training_prompts() -> None:
    sample = LESSONS.harmful_sample(50, seed=0)
    allowed = {
        lesson.prompt
        for lesson in LESSONS.all
        if lesson.item.harmful and lesson.item.split == "train"
    }
    assert len(sample) == 50 and set(sample) <= allowed


def test_clear_lessons_are_plain_and_not_borderline() -> None:
    for lesson, clear in zip(LESSONS.all, LESSONS.clear.tolist(), strict=True):
        assert clear == (lesson.form == "plain" and lesson.item.domain != "borderline")
