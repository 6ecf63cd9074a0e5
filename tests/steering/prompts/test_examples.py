"""Training sees neither held-out items nor templates kept for previews."""

from __future__ import annotations

from collections import Counter

import torch

from refusal_steering.prompts.contrast_set import load_items
from refusal_steering.prompts.examples import Examples

EXAMPLES = Examples.draw(load_items(), seed=0)


def test_no_held_item_is_taught() -> None:
    assert {example.item.split for example in EXAMPLES.all} == {"train", "tune"}


def test_the_kept_list_template_is_not_taught() -> None:
    assert not any("completing these three lines" in prompt for prompt in EXAMPLES.prompts)


def test_drawing_repeats_itself() -> None:
    assert Examples.draw(load_items(), seed=0).prompts == EXAMPLES.prompts
    assert Examples.draw(load_items(), seed=1).prompts != EXAMPLES.prompts


def test_forms_weigh_alike_within_a_label() -> None:
    sums: Counter[tuple[str, str]] = Counter()
    for example, weight in zip(EXAMPLES.all, EXAMPLES.weight.tolist(), strict=True):
        sums[example.form, example.item.label] += weight
    for label in ("harmful", "harmless"):
        of_label = torch.tensor([total for (_, own), total in sums.items() if own == label])
        torch.testing.assert_close(of_label, of_label[:1].expand(len(of_label)))


def test_borderline_templates_weigh_less_than_everyday_ones() -> None:
    weights: dict[bool, set[float]] = {True: set(), False: set()}
    for example, weight in zip(EXAMPLES.all, EXAMPLES.weight.tolist(), strict=True):
        if example.form == "plain" and not example.item.harmful:
            weights[example.item.domain == "borderline"].add(round(weight, 9))
    assert len(weights[True]) == len(weights[False]) == 1
    assert max(weights[True]) < 0.5 * min(weights[False])


def test_one_example_of_each_item_stands_for_it() -> None:
    chosen = [
        example.item.id
        for example, own in zip(EXAMPLES.all, EXAMPLES.one_per_item, strict=True)
        if own
    ]
    assert len(chosen) == len(set(chosen)) == len({example.item.id for example in EXAMPLES.all})
    forms = Counter(
        example.form
        for example, own in zip(EXAMPLES.all, EXAMPLES.one_per_item, strict=True)
        if own
    )
    assert min(forms.values()) > 0.05 * len(chosen)


def test_refinement_sees_only_harmful_training_prompts() -> None:
    sample = EXAMPLES.harmful_sample(50, seed=0)
    allowed = {
        example.prompt
        for example in EXAMPLES.all
        if example.item.harmful and example.item.split == "train"
    }
    assert len(sample) == 50 and set(sample) <= allowed


def test_clear_examples_are_plain_and_not_borderline() -> None:
    for example, clear in zip(EXAMPLES.all, EXAMPLES.clear.tolist(), strict=True):
        assert clear == (example.form == "plain" and example.item.domain != "borderline")
