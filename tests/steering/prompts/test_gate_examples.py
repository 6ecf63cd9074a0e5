"""What a gate learns from: the same every time, harmless twins everywhere, nothing held out."""

from __future__ import annotations

import re
from collections import defaultdict
from itertools import combinations

import pytest

from refusal_steering.evaluation.suites.unseen.part import unseen_cases
from refusal_steering.prompts.contrast_set import load_items
from refusal_steering.prompts.gate_examples import (
    FAMILIES,
    GateExamples,
    borderline_twins,
    language_items,
)
from refusal_steering.prompts.gate_labels import ABOUT, LANGUAGE

ITEMS = {item.id: item for item in load_items()}

LANGUAGE_FILES = ("languages.jsonl", "more_languages.jsonl")


@pytest.fixture(scope="module")
def examples() -> GateExamples:
    return GateExamples.draw(load_items(), 0)


def words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def test_examples_are_the_same_every_time(examples: GateExamples) -> None:
    assert GateExamples.draw(load_items(), 0).sha256 == examples.sha256
    assert GateExamples.draw(load_items(), 1).sha256 != examples.sha256


def test_no_held_out_row_is_among_them(examples: GateExamples) -> None:
    held = {item.id for item in ITEMS.values() if item.split == "held"}
    assert not held & {label.item_id for label in examples.labels.all}
    known = [example for example in examples.all if example.label.item_id in ITEMS]
    for example in known:
        assert example.label.tuning == (ITEMS[example.label.item_id].split == "tune")
    used = {words(item.text) for item in ITEMS.values() if item.split != "held"}
    spoken = " | ".join(words(t.content) for e in examples.all for t in e.conversation)
    for item in ITEMS.values():
        # A phrase may be part of another row's, or of a template.
        if item.split == "held" and not any(words(item.text) in text for text in used):
            assert f" {words(item.text)} " not in spoken or len(item.text) < 20, item.text


@pytest.mark.parametrize("half", ["open", "closed", "sealed"])
def test_no_unseen_family_and_no_unseen_request_is_learned(
    examples: GateExamples, half: str
) -> None:
    cases = unseen_cases(half)  # type: ignore[arg-type]
    assert not {case.family for case in cases} & {family.name for family in FAMILIES}
    assert not {case.item.id for case in cases} & {x.item_id for x in examples.labels.all}
    learned = {words(t.content) for e in examples.all for t in e.conversation if t.role == "user"}
    for case in cases:
        turns = [turn.content for turn in case.conversation if turn.role == "user"]
        asked = [turn for turn in turns if words(case.item.text) in words(turn)]
        assert asked and not {words(turn) for turn in asked} & learned


def test_parts_share_no_family_and_halves_no_request() -> None:
    parts = [unseen_cases("open"), unseen_cases("closed"), unseen_cases("sealed")]
    ids, families = ([{f(c) for c in part} for part in parts] for f in (_item, _family))
    assert not ids[0] & (ids[1] | ids[2])
    for one, other in combinations(families, 2):
        assert one & other == {"language", "borderline"}


def _item(case: object) -> str:
    return str(case.item.id)  # type: ignore[attr-defined]


def _family(case: object) -> str:
    return str(case.family)  # type: ignore[attr-defined]


def test_harmless_rows_stand_in_the_same_wrappers(examples: GateExamples) -> None:
    kinds = defaultdict(set)
    for label in examples.labels.all:
        kinds[label.family].add(label.harmful)
    for family, found in kinds.items():
        harmless = family.startswith(ABOUT) or family in {"long text", "pointing, talk"}
        assert found == ({False} if harmless else {True, False}), family
    assert {family.name for family in FAMILIES} <= set(kinds)


def test_a_task_about_harm_is_harmless_and_its_request_is_not(examples: GateExamples) -> None:
    about = [x for x in examples.labels.all if x.family.startswith(ABOUT)]
    assert about and not any(x.harmful or x.everyday for x in about)
    assert all(ITEMS[x.item_id].harmful for x in about)


def test_families_weigh_alike_but_for_tasks_about_harm_and_languages(
    examples: GateExamples,
) -> None:
    weight, labels = examples.labels.weight(0.1, 0.6, 1.0, 1.0), examples.labels.all
    sums: dict[tuple[str, bool], float] = defaultdict(float)
    for label, own in zip(labels, weight.tolist(), strict=True):
        sums[label.family, label.harmful] += own
    for (family, _), found in sums.items():
        expected = 0.1 if family.startswith(ABOUT) else 0.6 if family.startswith(LANGUAGE) else 1
        assert found == pytest.approx(expected, rel=1e-4)


def test_borderline_requests_weigh_by_a_factor(examples: GateExamples) -> None:
    labels = examples.labels
    before, after = labels.weight(0.1, 0.6, 1.0, 1.0), labels.weight(0.1, 0.6, 1.5, 0.5)
    for label, one, other in zip(labels.all, before.tolist(), after.tolist(), strict=True):
        assert other == pytest.approx(
            one * (0.5 if label.twin else 1.5 if label.borderline else 1.0)
        )


def test_one_example_of_every_item_is_chosen(examples: GateExamples) -> None:
    mask = examples.labels.one_per_item.tolist()
    chosen = [x.item_id for x, one in zip(examples.labels.all, mask, strict=True) if one]
    assert len(chosen) == len(set(chosen)) == len({x.item_id for x in examples.labels.all})


def test_requests_in_other_languages_are_of_six_and_both_labels() -> None:
    kinds = defaultdict(set)
    for item in language_items():
        kinds[item.domain].add((item.harmful, item.split == "tune"))
    assert len(kinds) >= 6
    for found in kinds.values():
        assert {(True, False), (False, False)} <= found


def test_twins_in_other_languages_train_and_set_no_threshold(examples: GateExamples) -> None:
    twins = {item.id for item in language_items("language_twins.jsonl")}
    others = {item.id for name in LANGUAGE_FILES for item in language_items(name)}
    assert not twins & others
    labels = [label for label in examples.labels.all if label.item_id in twins]
    assert len(labels) == len(twins) and not any(label.tuning for label in labels)


def test_every_harmful_request_of_a_language_has_a_harmless_twin() -> None:
    items = {item.id: item for item in language_items("language_twins.jsonl")}
    assert len({item.text for item in items.values()}) == len(items)
    for item in items.values():
        if item.harmful:
            twin = items[item.id.replace("harmful", "harmless")]
            assert (twin.domain, twin.harmful) == (item.domain, False)


def test_every_harmful_training_item_has_a_borderline_twin_that_only_trains(
    examples: GateExamples,
) -> None:
    twins = {twin.id: twin for twin in borderline_twins()}
    trained = {
        f"twin-of-{item.id}" for item in ITEMS.values() if item.harmful and item.split == "train"
    }
    assert set(twins) == trained
    assert len({twin.text for twin in twins.values()}) == len(twins)
    assert not {twin.text for twin in twins.values()} & {item.text for item in ITEMS.values()}
    families = defaultdict(set)
    for label in examples.labels.all:
        if label.item_id in twins:
            assert (label.harmful, label.tuning, label.borderline) == (False, False, True)
            families[label.item_id].add(label.family)
    assert set(families) == set(twins)
    assert all("plain" in found and len(found) > 3 for found in families.values())
