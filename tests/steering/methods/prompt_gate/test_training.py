"""Probes learn from the learning prompts alone, and score as the gate's own formula does."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import Tensor

from refusal_steering.calibration.token_rows.row_files import TokenRows
from refusal_steering.gate.prompt_gate import Pooling, PromptGate, TokenProbe
from refusal_steering.methods.prompt_gate.pooled import pooled_scores
from refusal_steering.methods.prompt_gate.training import GateRecipe, PartRecipe, train_probes
from refusal_steering.prompts.gate_labels import TWIN, GateLabel, GateLabels
from tests.steering.methods.prompt_gate.bags import SIZE, random_rows, with_harm

PROMPTS = 120
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)
ALL = torch.ones(PROMPTS, dtype=torch.bool)
HARMFUL = torch.arange(PROMPTS) % 3 == 0
LEARNING = torch.arange(PROMPTS) < 80
PART = PartRecipe(
    steps=60, learning_rate=0.03, ridge=0.002, about=1.0, language=1.0, borderline=1.0, twin=1.0
)
RECIPE = GateRecipe(maximum=PART, attention=PART, batch=32)


def labels_of(harmful: Tensor) -> GateLabels:
    """Prompts of one family, each an item of its own."""
    return GateLabels(
        tuple(
            GateLabel(f"item-{place}", "plain", bool(one), False, False)
            for place, one in enumerate(harmful)
        )
    )


LABELS = labels_of(HARMFUL)


def random_probe(seed: int) -> TokenProbe:
    generator = torch.Generator().manual_seed(seed)
    weight, query, value = torch.randn(3, SIZE, generator=generator)
    return TokenProbe(weight, 0.3, query, value, -0.2)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_pooled_scores_are_the_formula_of_the_gate(pooling: Pooling) -> None:
    rows, probes = random_rows(150), {1: random_probe(1), 2: random_probe(2)}
    gate = PromptGate(probes, pooling, 0.0, 1.0)
    where = torch.arange(150) % 2 == 0
    found = pooled_scores(rows, probes, pooling, where)
    alone = []
    for place in where.nonzero().flatten().tolist():
        start, end = rows.starts[place : place + 2].tolist()
        alone.append(gate.score({at: h[start:end] for at, h in rows.layers.items()}).score)
    torch.testing.assert_close(found, torch.tensor(alone), rtol=1e-4, atol=1e-4)


def test_nothing_to_score_is_no_score() -> None:
    found = pooled_scores(random_rows(3), {1: random_probe(1)}, "max", torch.zeros(3).bool())
    assert found.shape == (0,)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_one_token_of_a_prompt_is_enough(pooling: Pooling) -> None:
    rows = with_harm(random_rows(PROMPTS), HARMFUL)
    part = replace(PART, steps=200)
    recipe = replace(RECIPE, pooling=pooling, maximum=part, attention=part)
    probes = train_probes(rows, LABELS, LEARNING, recipe)
    scores = pooled_scores(rows, probes, pooling, ~LEARNING)
    harmful = HARMFUL[~LEARNING]
    assert float(scores[harmful].min()) > float(scores[~harmful].quantile(0.9))


def same(one: dict[int, TokenProbe], two: dict[int, TokenProbe]) -> bool:
    gates = [PromptGate(probes, "both", 0.0, 1.0) for probes in (one, two)]
    return gates[0].digest == gates[1].digest


def test_training_is_the_same_every_time_and_depends_on_the_seed() -> None:
    rows = with_harm(random_rows(PROMPTS), HARMFUL)
    one, two, other = (
        train_probes(rows, LABELS, LEARNING, replace(RECIPE, seed=seed)) for seed in (0, 0, 1)
    )
    assert same(one, two) and not same(one, other)


@pytest.mark.parametrize("prompt", [0, 100])
def test_only_learning_prompts_enter_probes_and_their_standardiser(prompt: int) -> None:
    rows = with_harm(random_rows(PROMPTS), HARMFUL)
    before = train_probes(rows, LABELS, LEARNING, RECIPE)
    start, end = rows.starts[prompt : prompt + 2].tolist()
    changed = {at: hidden.clone() for at, hidden in rows.layers.items()}
    for hidden in changed.values():
        hidden[start:end] = 1e4
    after = train_probes(TokenRows(changed, rows.starts), LABELS, LEARNING, RECIPE)
    assert same(before, after) == (not bool(LEARNING[prompt]))


def test_labels_of_other_prompts_do_not_enter() -> None:
    rows = with_harm(random_rows(PROMPTS), HARMFUL)
    before = train_probes(rows, LABELS, LEARNING, RECIPE)
    flipped = torch.where(LEARNING, HARMFUL, ~HARMFUL)
    after = train_probes(rows, labels_of(flipped), LEARNING, RECIPE)
    for at in before:
        torch.testing.assert_close(before[at].weight, after[at].weight, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_both_is_the_mix_of_its_two_parts(share: float) -> None:
    rows = with_harm(random_rows(PROMPTS), HARMFUL)
    scores = {
        pooling: pooled_scores(
            rows,
            train_probes(rows, LABELS, LEARNING, replace(RECIPE, pooling=pooling, mix=share)),
            pooling,
            ALL,
        )
        for pooling in POOLINGS
    }
    expected = share * scores["max"] + (1 - share) * scores["attention"]
    torch.testing.assert_close(scores["both"], expected)


def test_a_label_counts_half_whatever_its_families_weigh() -> None:
    rows = with_harm(random_rows(PROMPTS), HARMFUL)
    light = GateLabels(
        tuple(
            replace(label, family="language-de") if label.harmful else label for label in LABELS.all
        )
    )
    before = train_probes(rows, LABELS, LEARNING, RECIPE)
    after = train_probes(rows, light, LEARNING, RECIPE)
    for at in before:
        torch.testing.assert_close(before[at].weight, after[at].weight, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("pooling", ("max", "attention"))
def test_prompts_that_weigh_nothing_teach_nothing(pooling: Pooling) -> None:
    twins = ~HARMFUL & (torch.arange(PROMPTS) % 2 == 0)
    labels = GateLabels(
        tuple(
            replace(label, item_id=f"{TWIN}{label.item_id}", borderline=True) if twin else label
            for label, twin in zip(LABELS.all, twins.tolist(), strict=True)
        )
    )
    part = replace(PART, twin=0.0)
    recipe = replace(RECIPE, pooling=pooling, maximum=part, attention=part)
    rows = random_rows(PROMPTS)
    with_them = train_probes(rows, labels, LEARNING, recipe)
    assert same(with_them, train_probes(rows, labels, LEARNING & ~twins, recipe))
    taught = replace(recipe, maximum=PART, attention=PART)
    assert not same(with_them, train_probes(rows, labels, LEARNING, taught))
