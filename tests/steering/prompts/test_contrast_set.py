"""The contrast set is large, clean and split, and every form carries the request."""

from __future__ import annotations

from collections import Counter
from importlib import resources

import pytest

from refusal_steering.prompts.contrast_set import (
    FORMS,
    AttackForm,
    digest,
    load_items,
    new_templates,
    render,
    templates,
    trained_templates,
)
from refusal_steering.prompts.template_parts import KEPT, ROLE_RULES
from refusal_steering.prompts.templates import TEMPLATES

ITEMS = load_items()


def test_enough_items_of_both_labels_in_many_domains() -> None:
    labels = Counter(item.label for item in ITEMS)
    assert labels["harmful"] >= 120 and labels["harmless"] >= 120
    assert len({item.domain for item in ITEMS if item.harmful}) >= 12
    assert len({item.domain for item in ITEMS if not item.harmful}) >= 12


def test_the_data_card_has_the_counts_of_the_set() -> None:
    card = (resources.files("refusal_steering.prompts") / "data" / "README.md").read_text()
    for label in ("harmful", "harmless"):
        of_label = [item for item in ITEMS if item.label == label]
        splits = Counter(item.split for item in of_label)
        assert f"| {len(of_label)}" in card
        assert f"| {splits['train']}, {splits['tune']}, {splits['held']} |" in card
    borderline = sum(item.domain == "borderline" for item in ITEMS)
    assert f"of which {borderline} borderline" in card


def test_borderline_templates_are_harmless() -> None:
    assert {item.label for item in ITEMS if item.domain == "borderline"} == {"harmless"}


def test_no_duplicate_ids_or_texts() -> None:
    assert len({item.id for item in ITEMS}) == len(ITEMS)
    assert len({item.text.lower() for item in ITEMS}) == len(ITEMS)


@pytest.mark.parametrize("split", ["train", "tune", "held"])
def test_every_split_holds_both_labels(split: str) -> None:
    labels = Counter(item.label for item in ITEMS if item.split == split)
    assert min(labels["harmful"], labels["harmless"]) >= 30


@pytest.mark.parametrize("form", FORMS)
def test_every_template_renders_the_text_of_every_item(form: AttackForm) -> None:
    for item in ITEMS[::7]:
        for template in range(templates(form)):
            prompt = render(item, form, template, frame=template)
            assert item.text.lower() in prompt.lower()
            assert "{" not in prompt.lower().replace(item.text.lower(), "")


def test_list_form_ends_with_room_to_fill_in() -> None:
    assert render(ITEMS[0], "list", 0).endswith("\n1.\n2.\n3.")


@pytest.mark.parametrize("form", FORMS)
def test_templates_are_different_and_either_trained_or_new(form: AttackForm) -> None:
    assert [*trained_templates(form), *new_templates(form)] == list(range(templates(form)))
    assert len(set(TEMPLATES[form])) == templates(form)


@pytest.mark.parametrize("form", ["carrier", "list", "role"])
def test_many_templates_are_trained_and_some_kept_from_training(form: AttackForm) -> None:
    assert len(trained_templates(form)) >= 80 and len(new_templates(form)) >= 5


def test_parts_kept_from_training_are_in_no_trained_role_play() -> None:
    trained = [TEMPLATES["role"][place] for place in trained_templates("role")]
    for rule in ROLE_RULES[-KEPT:]:
        assert not any(rule in template for template in trained)


def test_digest_is_stable() -> None:
    assert digest() == digest() and len(digest()) == 64
