"""The demo's bundles load, belong to the contrast set as it is, and keep their promises."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from refusal_steering.bundle import SteeringBundle, load_bundle
from refusal_steering.calibration.contrast import digest

FOLDER = Path(__file__).parents[3] / "deploy" / "demo" / "bundles"


@pytest.fixture(params=["static", "omnisteer"])
def bundle(request: pytest.FixtureRequest) -> SteeringBundle:
    return load_bundle(FOLDER / request.param)


def test_made_from_the_contrast_set_as_it_is(bundle: SteeringBundle) -> None:
    assert bundle.manifest.calibration["contrast_sha256"] == digest()


def test_only_pushes_towards_refusal(bundle: SteeringBundle) -> None:
    rows = torch.randn(200, bundle.manifest.model.hidden_size) * 5.0
    for layer in bundle.layers.values():
        assert layer.floor == 0.0
        assert float(layer.coefficient(rows).min()) >= 0.0


def test_one_layer_carries_the_risk_probe(bundle: SteeringBundle) -> None:
    probed = [at for at, layer in bundle.layers.items() if layer.risk_weight.any()]
    assert probed == [bundle.manifest.layers[0]]


def test_canary_moves_far_beyond_its_tolerance(bundle: SteeringBundle) -> None:
    canary = bundle.manifest.canary
    assert canary is not None and 4 <= len(canary.shift) <= 8
    assert max(map(abs, canary.shift.values())) > 2.0 * canary.tolerance


def test_window_is_short_and_holds(bundle: SteeringBundle) -> None:
    assert bundle.manifest.window.hold and bundle.manifest.window.decode_tokens == 3


def test_both_bundles_share_directions() -> None:
    static, adaptive = load_bundle(FOLDER / "static"), load_bundle(FOLDER / "omnisteer")
    for at, layer in static.layers.items():
        assert torch.equal(layer.direction, adaptive.layers[at].direction)
        assert 0.0 < layer.output_bias < adaptive.layers[at].ceiling
