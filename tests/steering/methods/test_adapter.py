"""Laws of the adapter and the probe: folding, the clamp, and what training must achieve."""

from __future__ import annotations

import torch
from torch import Tensor

from refusal_steering.calibration.directions import Direction
from refusal_steering.coefficient import LayerSteering
from refusal_steering.methods.adapter import (
    Recipe,
    Standardiser,
    sharpened,
    train_adapter,
    train_probe,
    with_probe,
)

SIZE = 16
RECIPE = Recipe(width=8, steps=200, dropout=0.0)


def clusters(rows: int = 200) -> tuple[Tensor, Tensor]:
    """Residual rows [N, H] far from the origin, harmful ones shifted along the first axis."""
    generator = torch.Generator().manual_seed(1)
    harmful = torch.arange(rows) % 2 == 0
    hidden = torch.randn(rows, SIZE, generator=generator) * 2.0 + 5.0
    hidden[harmful, 0] += 12.0
    return hidden, harmful


def trained() -> tuple[LayerSteering, Direction, Tensor, Tensor]:
    hidden, harmful = clusters()
    direction = Direction.between(hidden, harmful)
    adapter = train_adapter(hidden, harmful, torch.ones(len(hidden)), direction, RECIPE)
    return adapter, direction, hidden, harmful


def test_folded_standardisation_equals_explicit() -> None:
    hidden, _ = clusters()
    standardise = Standardiser.of(hidden)
    weight, bias = torch.randn(4, SIZE), torch.randn(4)
    folded_weight, folded_bias = standardise.fold(weight, bias)
    explicit = standardise(hidden) @ weight.T + bias
    torch.testing.assert_close(
        hidden @ folded_weight.T + folded_bias, explicit, atol=1e-4, rtol=1e-4
    )


def test_adapter_gives_the_dose_to_harmful_rows_and_exactly_nothing_to_others() -> None:
    adapter, direction, hidden, harmful = trained()
    earned = adapter.coefficient(hidden)
    assert (earned[~harmful] == 0.0).float().mean() > 0.97
    assert earned[harmful].mean() > 0.8 * RECIPE.dose * direction.scale


def test_adapter_stays_between_floor_and_ceiling() -> None:
    adapter, direction, _, _ = trained()
    earned = adapter.coefficient(torch.randn(500, SIZE) * 100.0)
    assert adapter.floor == 0.0 and float(earned.min()) >= 0.0
    assert float(earned.max()) <= RECIPE.dose * direction.scale + 1e-4


def test_training_repeats_itself_and_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    first, again = trained()[0], trained()[0]
    assert torch.equal(first.input_weight, again.input_weight)
    assert torch.equal(before, torch.get_rng_state())


def test_sharpening_saturates_the_asked_share_and_changes_nobody_to_or_from_zero() -> None:
    adapter, _, hidden, harmful = trained()
    sharp = sharpened(adapter, hidden[harmful], 0.9)
    earned = sharp.coefficient(hidden)
    assert torch.equal(earned > 0, adapter.coefficient(hidden) > 0)
    full = earned[harmful & (earned > 0)] >= sharp.ceiling - 1e-3
    assert full.float().mean() >= 0.85


def test_probe_is_positive_for_harmful_rows() -> None:
    hidden, harmful = clusters()
    weight, bias = train_probe(hidden, harmful, torch.ones(len(hidden)))
    assert (((hidden @ weight + bias) > 0) == harmful).float().mean() > 0.97


def test_only_one_layer_carries_the_probe() -> None:
    adapter, _, hidden, _ = trained()
    weight, bias = torch.ones(SIZE), 0.5
    layers = with_probe({3: adapter, 5: adapter}, 3, weight, bias)
    torch.testing.assert_close(layers[3].risk_logit(hidden), hidden.sum(-1) + 0.5)
    assert torch.equal(layers[5].risk_logit(hidden), torch.zeros(len(hidden)))
