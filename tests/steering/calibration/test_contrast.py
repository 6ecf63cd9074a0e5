"""The contrast set is large, clean and split, and every form carries the request."""

from __future__ import annotations

from collections import Counter

import pytest

from refusal_steering.calibration.contrast import (
    FORMS,
    Form,
    digest,
    load_items,
    render,
    trained_wordings,
    wordings,
)

ITEMS = load_items()


def test_enough_items_of_both_labels_in_many_domains() -> None:
    labels = Counter(item.label for item in ITEMS)
    assert labels["harmful"] >= 120 and labels["harmless"] >= 120
    assert len({item.domain for item in ITEMS if item.harmful}) >= 12
    assert len({item.domain for item in ITEMS if not item.harmful}) >= 12


def test_borderline_wordings_are_harmless() -> None:
    assert {item.label for item in ITEMS if item.domain == "borderline"} == {"harmless"}


def test_no_duplicate_ids_or_texts() -> None:
    assert len({item.id for item in ITEMS}) == len(ITEMS)
    assert len({item.text.lower() for item in ITEMS}) == len(ITEMS)


@pytest.mark.parametrize("split", ["train", "tune", "held"])
def test_every_split_holds_both_labels(split: str) -> None:
    labels = Counter(item.label for item in ITEMS if item.split == split)
    assert min(labels["harmful"], labels["harmless"]) >= 30


@pytest.mark.parametrize("form", FORMS)
def test_every_wording_renders_the_text_of_every_item(form: Form) -> None:
    for item in ITEMS:
        for wording in range(wordings(form)):
            prompt = render(item, form, wording, frame=wording)
            assert item.text in prompt
            assert "{" not in prompt.replace(item.text, "")


def test_list_form_ends_with_room_to_fill_in() -> None:
    assert render(ITEMS[0], "list", 0).endswith("\n1.\n2.\n3.")


@pytest.mark.parametrize("form", ["carrier", "list", "role"])
def test_last_wording_is_kept_from_training(form: Form) -> None:
    assert wordings(form) - 1 not in trained_wordings(form)


def test_digest_is_stable() -> None:
    assert digest() == digest() and len(digest()) == 64
