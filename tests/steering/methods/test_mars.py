"""MARS: the coefficient equals its formula, re-centring moves the gate, and nothing else does."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from refusal_steering.errors import SteeringError
from refusal_steering.methods.mars import (
    TextDirection,
    TrustRegion,
    mars_layer,
    media_offset,
    neutral_offset,
)

SIZE = 24
BALL = TrustRegion(shape="ball")


def rows(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    harmful = torch.arange(80) % 2 == 0
    found = torch.randn(80, SIZE, generator=generator) + 5.0
    found[harmful, 0] += 3.0
    return found, harmful


@pytest.mark.parametrize(
    "how", [TrustRegion(), TrustRegion(gate=0.4, slope=1.0), TrustRegion(slope=4.0, reach=0.5)]
)
def test_the_layer_equals_the_formula(how: TrustRegion) -> None:
    found, harmful = rows()
    layer = mars_layer(found, harmful, how)
    direction = TextDirection.between(found, harmful)
    edge = float(direction.place(found)[harmful].quantile(how.quantile)) * (1 + how.reach)
    steps = torch.linspace(-6, 12, 400)
    line = steps.unsqueeze(-1) * direction.unit + direction.middle * direction.unit
    p = direction.place(line)
    room = (edge - p).clamp(min=0.0)
    expected = torch.where(p > how.gate, torch.minimum(how.slope * (p - how.gate), room), 0.0)
    torch.testing.assert_close(layer.coefficient(line), expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("how", [BALL, replace(BALL, gate=0.4, slope=1.0, quantile=0.5)])
def test_a_ball_bounds_the_layer_by_its_formula(how: TrustRegion) -> None:
    found, harmful = rows()
    layer, direction = mars_layer(found, harmful, how), TextDirection.between(found, harmful)
    distances = (found[harmful] - found[harmful].mean(0)).norm(dim=-1)
    radius, free, bound = float(distances.quantile(how.quantile)), 0, 0
    for row in found + 0.5 * torch.randn(80, SIZE, generator=torch.Generator().manual_seed(1)):
        p = float(direction.place(row))
        seen = row - found[harmful].mean(0)
        along = float(seen @ direction.unit)
        reach = along**2 - float(seen @ seen) + radius**2
        room = max(0.0, -along + max(0.0, reach) ** 0.5)
        wanted = how.slope * (p - how.gate) if p > how.gate else 0.0
        assert float(layer.coefficient(row)) == pytest.approx(min(wanted, room), abs=2e-2)
        free, bound = free + (0.0 < wanted < room), bound + (wanted > room)
    assert free and bound


def test_nobody_inside_is_pushed_out_of_the_ball() -> None:
    found, harmful = rows()
    layer = mars_layer(found, harmful, BALL)
    assert layer.ball is not None
    moved = found + layer.coefficient(found).unsqueeze(-1) * layer.direction
    before, after = ((one - layer.ball.centre).norm(dim=-1) for one in (found, moved))
    assert float((after - before.clamp(min=layer.ball.radius)).max()) <= 1e-3


def test_absolute_offsets_make_neutral_media_the_origin() -> None:
    found, harmful = rows()
    direction = TextDirection.between(found, harmful)
    beside, alone = torch.randn(3, SIZE), torch.randn(SIZE)
    absolute = media_offset("absolute", beside, alone, direction.midpoint)
    torch.testing.assert_close(
        direction.place(beside - absolute), torch.zeros(3), atol=1e-4, rtol=0.0
    )
    assert torch.equal(media_offset("paired", beside, alone, direction.midpoint), beside - alone)


def test_the_means_lie_half_their_distance_from_the_middle() -> None:
    found, harmful = rows()
    direction = TextDirection.between(found, harmful)
    places = direction.place(found)
    assert float(places[harmful].mean()) == pytest.approx(direction.half, rel=1e-4)
    assert float(places[~harmful].mean()) == pytest.approx(-direction.half, rel=1e-4)


def test_nobody_is_pushed_out_of_the_trust_region() -> None:
    found, harmful = rows()
    layer = mars_layer(found, harmful, TrustRegion(reach=0.0))
    direction = TextDirection.between(found, harmful)
    edge = float(direction.place(found)[harmful].quantile(0.95))
    moved = found + layer.coefficient(found).unsqueeze(-1) * layer.direction
    assert (
        float(direction.place(moved).max()) <= max(edge, float(direction.place(found).max())) + 1e-3
    )


def test_an_offset_undoes_what_a_medium_adds() -> None:
    found, harmful = rows()
    shift = torch.randn(SIZE)
    layer = replace(mars_layer(found, harmful, TrustRegion()), offsets={"image": shift})
    torch.testing.assert_close(
        layer.coefficient(found + shift, ["image"]), layer.coefficient(found), atol=1e-4, rtol=1e-4
    )
    torch.testing.assert_close(
        layer.risk_logit(found + shift, ["image"]), layer.risk_logit(found), atol=1e-3, rtol=1e-4
    )


def test_neutral_offset_is_the_mean_of_paired_differences() -> None:
    plain, shift = torch.randn(12, SIZE), torch.randn(SIZE)
    noise = torch.randn(12, SIZE)
    moved = neutral_offset(plain + shift + noise - noise.mean(0), plain)
    torch.testing.assert_close(moved, shift, atol=1e-5, rtol=1e-4)
    with pytest.raises(SteeringError, match="same prompts"):
        neutral_offset(plain, plain[:3])


def test_what_cannot_work_is_refused() -> None:
    found, harmful = rows()
    with pytest.raises(SteeringError, match="same mean"):
        mars_layer(torch.ones(80, SIZE), harmful, TrustRegion())
    with pytest.raises(SteeringError, match="trust region"):
        mars_layer(found, harmful, TrustRegion(gate=50.0))
