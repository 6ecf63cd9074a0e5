"""The direction is a unit vector along which harmful rows lie further."""

from __future__ import annotations

import pytest
import torch

from refusal_steering.calibration.directions import Direction
from refusal_steering.coefficient import LayerSteering
from refusal_steering.pipeline.strategies import static_layers


def rows() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    harmful = torch.arange(40) < 20
    hidden = torch.randn(40, 8, generator=generator)
    hidden[harmful] += torch.linspace(-1.0, 1.0, 8)
    return hidden, harmful


def test_harmful_rows_project_higher() -> None:
    hidden, harmful = rows()
    direction = Direction.between(hidden, harmful)
    projection = hidden @ direction.unit
    assert float(direction.unit.norm()) == pytest.approx(1.0, abs=1e-5)
    assert projection[harmful].mean() > projection[~harmful].mean()
    assert direction.scale == pytest.approx(float(hidden.norm(dim=-1).median()))


def test_static_layers_apply_the_dose_to_every_row_and_keep_the_probe() -> None:
    hidden, harmful = rows()
    direction = Direction.between(hidden, harmful)
    probed = LayerSteering.static(direction.unit, 0.0)
    layer = static_layers({2: direction}, {2: probed}, 0.25)[2]
    expected = torch.full((40,), 0.25 * direction.scale)
    torch.testing.assert_close(layer.coefficient(hidden), expected)
    assert torch.equal(layer.risk_weight, probed.risk_weight)
