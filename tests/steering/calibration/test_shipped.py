"""The demo's bundles load, belong to the contrast set as it is, and keep their promises."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import get_args

import pytest
import torch

from refusal_steering.bundle import SteeringBundle, Strategy, load_bundle
from refusal_steering.prompts.contrast_set import digest

FOLDER = Path(__file__).parents[3] / "deploy" / "demo" / "bundles"
# What a gate is made from is not the contrast set as it is: its card is looked at below.
STRATEGIES = sorted(set(get_args(Strategy)) - {"promptgate"})


@pytest.fixture(params=STRATEGIES)
def bundle(request: pytest.FixtureRequest) -> SteeringBundle:
    return load_bundle(FOLDER / request.param)


def test_every_strategy_is_shipped_under_its_name(bundle: SteeringBundle) -> None:
    assert bundle.manifest.strategy in STRATEGIES
    assert (bundle.prototypes is not None) == (bundle.manifest.strategy in ("ras", "cascade"))


def test_made_from_the_contrast_set_as_it_is(bundle: SteeringBundle) -> None:
    assert bundle.manifest.calibration["requests_sha256"] == digest()


def test_the_card_describes_the_bundle_that_lies_beside_it(bundle: SteeringBundle) -> None:
    """A bundle that is built anew needs new figures on its card, and then its new digests."""
    manifest = bundle.manifest
    card = (FOLDER / manifest.strategy / "README.md").read_text()
    for said in (
        f"`{manifest.weights_sha256}`",
        f"`{manifest.calibration['requests_sha256']}`",
        f"{manifest.model.id} (Apache-2.0)",
        f"| strategy | `{manifest.strategy}` |",
        "Development (",
        "Unseen",
    ):
        assert said in card, said


def test_the_card_of_the_gate_names_its_weights() -> None:
    manifest = load_bundle(FOLDER / "promptgate").manifest
    assert f"`{manifest.weights_sha256}`" in (FOLDER / "promptgate" / "README.md").read_text()


def test_the_card_tells_the_share_that_the_manifest_keeps(bundle: SteeringBundle) -> None:
    card = (FOLDER / bundle.manifest.strategy / "README.md").read_text()
    found = bundle.manifest.measured_at(1.0)
    if found is None:
        assert bundle.manifest.strategy == "cascade"
        assert "| refused in a trial | not measured" in card
        return
    told = f"{found.share:.1%} ({found.refused} of {found.requests}) of harmful held-out requests"
    assert f"| refused in a trial | {told}" in card


def test_shipped_bundles_were_measured_alike() -> None:
    shares = [load_bundle(FOLDER / name).manifest.measured_at(1.0) for name in STRATEGIES]
    assert len({share.terms for share in shares if share is not None}) == 1


def test_a_card_beside_a_bundle_changes_nothing(bundle: SteeringBundle, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(FOLDER / bundle.manifest.strategy, folder)
    (folder / "README.md").unlink()
    assert load_bundle(folder).digest == bundle.digest
    (folder / "README.md").write_text("anything")
    assert load_bundle(folder).digest == bundle.digest


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


def test_strategies_that_blend_are_silent_in_the_residual_stream(bundle: SteeringBundle) -> None:
    if bundle.prototypes is not None:
        rows = torch.randn(50, bundle.manifest.model.hidden_size) * 5.0
        for layer in bundle.layers.values():
            assert not layer.coefficient(rows).any()


def test_static_and_adaptive_share_directions() -> None:
    static, adaptive = load_bundle(FOLDER / "static"), load_bundle(FOLDER / "omnisteer")
    for at, layer in static.layers.items():
        assert torch.equal(layer.direction, adaptive.layers[at].direction)
        assert 0.0 < layer.output_bias < adaptive.layers[at].ceiling


def test_mars_stays_inside_its_trust_region() -> None:
    """A row on the direction is never pushed past where the harmful calibration rows end."""
    ((_, layer),) = load_bundle(FOLDER / "mars").layers.items()
    edge = -float(layer.input_bias[2])
    line = torch.linspace(-2.0 * abs(edge), 3.0 * abs(edge), 301)
    moved = line + layer.coefficient(line.unsqueeze(-1) * layer.direction)
    assert float((moved - torch.maximum(line, torch.tensor(edge))).max()) <= 1e-2 * abs(edge)
