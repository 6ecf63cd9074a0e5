"""The loss table of the presets, and for which lengths of the vector a loss still pulls."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch

from refusal_steering.methods.omnisteer_loss import batch_loss, item_losses
from refusal_steering.methods.omnisteer_presets import (
    BAICHUAN,
    CENTRED,
    MINICPM,
    PRESETS,
    QWEN,
    SCALE_FREE,
    Preset,
)

# Reach and keep in stream units for a vector of length N, hinge divisor, costs per stream unit.
TABLE: dict[str, Callable[[float], tuple[float, float, float, float, float]]] = {
    "qwen": lambda n: (0.3 * n, 0.5 * n, n, 0.01, 0.05),
    "baichuan": lambda n: (0.8 * n, 0.4 * n, n, 0.01, 0.02),
    "minicpm": lambda n: (10.0, 3.0, 1.0, 0.005, 0.01),
    "scale-free": lambda n: (0.3 * n, 0.5 * n, n, 0.01 / n, 0.05 / n),
    "centred": lambda n: (2.0 * n, 0.5 * n, n, 0.01 / n, 0.05 / n),
}


def by_hand(name: str, k: float, along: float, harmful: bool, norm: float) -> float:
    reach, keep, unit, harmful_cost, harmless_cost = TABLE[name](norm)
    p = along + k
    if harmful:
        return max(0.0, reach - p) / unit + harmful_cost * abs(k)
    return max(0.0, p + keep) / unit + harmless_cost * abs(k)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("norm", [1.0, 13.28, 190.0])
def test_every_preset_equals_the_table(name: str, norm: float) -> None:
    values = (-40.0, -3.0, 0.0, 2.0, 60.0)
    for k, along, harmful in itertools.product(values, values, (True, False)):
        found = item_losses(
            torch.tensor([k]), torch.tensor([along]), torch.tensor([harmful]), norm, PRESETS[name]
        )
        assert float(found) == pytest.approx(by_hand(name, k, along, harmful, norm), rel=1e-5)


def test_a_batch_is_the_mean_of_each_class() -> None:
    generator = torch.Generator().manual_seed(0)
    k, along = torch.randn(2, 9, generator=generator) * 20
    harmful = torch.tensor([True] * 2 + [False] * 7)
    items = [
        by_hand("qwen", float(k[at]), float(along[at]), bool(harmful[at]), 16.0) for at in range(9)
    ]
    expected = sum(items[:2]) / 2 + sum(items[2:]) / 7
    assert float(batch_loss(k, along, harmful, 16.0, QWEN)) == pytest.approx(expected, rel=1e-5)
    alone = batch_loss(k[:2], along[:2], harmful[:2], 16.0, QWEN)
    assert float(alone) == pytest.approx(sum(items[:2]) / 2, rel=1e-5)


def pulls(preset: Preset, norm: float, harmful: bool) -> bool:
    """Whether a coefficient that already points the right way is still driven further.

    The row lies where its hinge is active.
    """
    k = torch.tensor([0.01 if harmful else -0.01], requires_grad=True)
    along = torch.tensor([-2.0 * norm if harmful else 2.0 * norm])
    loss = batch_loss(k, along, torch.tensor([harmful]), norm, preset)
    (slope,) = torch.autograd.grad(loss, k)
    return float(slope) < 0 if harmful else float(slope) > 0


@pytest.mark.parametrize(
    ("preset", "harmful", "limit"),
    [(QWEN, True, 100.0), (QWEN, False, 20.0), (BAICHUAN, True, 100.0), (BAICHUAN, False, 50.0)],
)
def test_published_pulls_die_beyond_the_inverse_cost(
    preset: Preset, harmful: bool, limit: float
) -> None:
    assert pulls(preset, 0.99 * limit, harmful)
    assert not pulls(preset, 1.01 * limit, harmful)


@pytest.mark.parametrize("preset", [MINICPM, SCALE_FREE, CENTRED])
@pytest.mark.parametrize("harmful", [True, False])
def test_unit_and_scale_free_losses_pull_at_every_length(preset: Preset, harmful: bool) -> None:
    assert all(pulls(preset, norm, harmful) for norm in (0.01, 1.0, 20.0, 192.0, 1e5))


def test_only_losses_in_lengths_of_the_vector_are_the_same_at_every_scale() -> None:
    generator = torch.Generator().manual_seed(1)
    k, along = torch.randn(2, 50, generator=generator) * 10
    harmful = torch.arange(50) % 2 == 0
    for preset in PRESETS.values():
        small = item_losses(k, along, harmful, 7.0, preset)
        large = item_losses(100 * k, 100 * along, harmful, 700.0, preset)
        assert torch.allclose(small, large, rtol=1e-4) is (preset in (SCALE_FREE, CENTRED))
