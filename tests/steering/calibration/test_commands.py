"""The golden, train and inspect commands on a small activation file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from typer.testing import CliRunner

from refusal_steering.bundle import ModelIdentity, RefusedShare, load_bundle, save_measured
from refusal_steering.calibration.activation_file import ActivationFile
from refusal_steering.calibration.canary import NoCanaryError, measured_canary
from refusal_steering.calibration.model import CalibrationModel
from refusal_steering.coefficient import LayerSteering
from refusal_steering.errors import BundleError
from refusal_steering.methods.golden import GoldenError
from refusal_steering.methods.golden_file import GoldenFile, load_golden
from refusal_steering.methods.omnisteer_presets import SCALE_FREE
from refusal_steering.methods.omnisteer_training import Training, TrainingError
from refusal_steering.spec import SteeringSpec
from refusal_steering.tools import cli
from refusal_steering.tools.golden import golden
from refusal_steering.tools.inspect import facts_of, inspect
from refusal_steering.tools.train import train, trained_layers

SIZE = 24
app = typer.Typer()
app.command()(golden)
app.command()(train)
app.command()(inspect)


def run(*arguments: object) -> str:
    """Output of a command; what it raises is raised here."""
    result = CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with ``a.safetensors``: two groups of rows after layers 1 and 3."""
    generator = torch.Generator().manual_seed(2)
    count = 160
    harmful = torch.arange(count) % 2 == 0
    rows = {at: torch.randn(count, SIZE, generator=generator) for at in (1, 3)}
    for hidden in rows.values():
        hidden[harmful] += 1.5
    ActivationFile(
        rows=rows,
        harmful=harmful,
        groups=tuple("text" if at % 4 < 2 else "audio" for at in range(count)),
        splits=tuple("train" if at < 120 else "held" for at in range(count)),
        model=ModelIdentity(id="tiny", hidden_size=SIZE, num_layers=4),
        prompts_sha256="a" * 64,
    ).save(tmp_path / "a.safetensors")
    return tmp_path


TRAINING = ("--epochs", 20, "--width", 8, "--batch-size", 16, "--centred", "--reach", 2)


def trained(folder: Path, *options: object) -> Path:
    run("golden", folder / "a.safetensors", folder / "g.safetensors")
    out = folder / "bundle"
    run("train", folder / "a.safetensors", folder / "g.safetensors", out, *TRAINING, *options)
    return out


def test_from_activations_to_a_bundle(folder: Path) -> None:
    bundle = load_bundle(trained(folder))
    assert bundle.manifest.strategy == "omnisteer" and bundle.manifest.layers == (1, 3)
    assert (bundle.manifest.window.decode_tokens, bundle.manifest.window.hold) == (None, False)
    facts = bundle.manifest.calibration
    assert facts["prompts_sha256"] == "a" * 64
    preset = facts["training"]["preset"]
    assert (preset["name"], preset["reach"], preset["keep"]) == ("scale-free", 2.0, 0.5)
    file = ActivationFile.load(folder / "a.safetensors")
    vectors = load_golden(folder / "g.safetensors").vectors
    for at, layer in bundle.layers.items():
        assert torch.allclose(layer.direction, vectors[at] / vectors[at].norm(), atol=1e-6)
        k = layer.coefficient(file.layer(at))
        assert layer.floor == 0.0 and float(k[file.harmful].mean()) > float(k[~file.harmful].mean())
    risk = bundle.layers[1].risk_logit(file.layer(1)) > 0
    assert float((risk == file.harmful).float().mean()) > 0.9


def test_without_layers_the_neighbours_that_tell_apart_best_are_steered(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(7)
    count, apart = 240, {0: 0.4, 1: 0.7, 2: 2.0, 3: 2.0, 4: 2.0, 5: 0.4}
    harmful = torch.arange(count) % 2 == 0
    rows = {at: torch.randn(count, SIZE, generator=generator) for at in apart}
    for at, distance in apart.items():
        rows[at][harmful] += distance / SIZE**0.5
    model = ModelIdentity(id="tiny", hidden_size=SIZE, num_layers=6)
    groups = tuple("text" if at % 4 < 2 else "audio" for at in range(count))
    splits = tuple("train" if at < 160 else "tune" for at in range(count))
    vectors = {at: torch.ones(SIZE) for at in apart}
    file = ActivationFile(rows, harmful, groups, splits, model, "a" * 64)
    golden = GoldenFile(vectors, model, {})
    how = Training(preset=replace(SCALE_FREE, reach=2.0), width=4, epochs=1)
    assert set(trained_layers(file, golden, [], how)) == {2, 3, 4}
    assert set(trained_layers(file, golden, [0, 5], how)) == {0, 5}


def test_options_reach_the_bundle(folder: Path) -> None:
    out = trained(folder, "--layer", 3, "--k-max", 1.25, "--decode-tokens", 2, "--hold")
    bundle = load_bundle(out)
    assert bundle.manifest.layers == (3,) and bundle.layers[3].ceiling == 1.25
    assert (bundle.manifest.window.decode_tokens, bundle.manifest.window.hold) == (2, True)
    assert bundle.layers[3].hidden_units == 8


def test_a_bundle_without_a_canary_is_announced(folder: Path) -> None:
    trained(folder)
    arguments = [folder / "a.safetensors", folder / "g.safetensors", folder / "b", *TRAINING]
    assert "--model PATH" in run("train", *arguments)


def test_what_cannot_work_is_refused(folder: Path) -> None:
    trained(folder)
    source, vectors = folder / "a.safetensors", folder / "g.safetensors"
    with pytest.raises(GoldenError, match="text modality 'plain'"):
        run("golden", source, folder / "h.safetensors", "--text", "plain")
    with pytest.raises(TrainingError, match=r"layers \[2\]"):
        run("train", source, vectors, folder / "b", "--layer", 2)
    other = ActivationFile.load(source)
    model = ModelIdentity(id="other", hidden_size=SIZE, num_layers=4)
    ActivationFile(
        other.rows, other.harmful, other.groups, other.splits, model, other.prompts_sha256
    ).save(folder / "o.safetensors")
    with pytest.raises(TrainingError, match="of other"):
        run("train", folder / "o.safetensors", vectors, folder / "b")
    result = CliRunner().invoke(
        app, ["train", str(source), str(vectors), str(folder / "b"), "--preset", "magic"]
    )
    assert result.exit_code == 2 and not (folder / "b").exists()


def test_a_canary_is_measured_or_its_absence_is_an_error(target: CalibrationModel) -> None:
    unit = torch.ones(32) / 32**0.5
    canary = measured_canary(target, SteeringSpec({1: LayerSteering.static(unit, 60.0)}))
    assert max(map(abs, canary.shift.values())) > 2 * canary.tolerance
    with pytest.raises(NoCanaryError, match="larger dose"):
        measured_canary(target, SteeringSpec({1: LayerSteering.static(unit, 1e-3)}))


def test_inspect_shows_a_bundle_and_checks_it(folder: Path) -> None:
    out = trained(folder)
    result = CliRunner().invoke(app, ["inspect", str(out), "--json"])
    facts = json.loads(result.output)
    assert result.exit_code == 1 and not facts["usable"], "no canary, no service"
    bundle = load_bundle(out)
    assert facts["measured"].startswith("no: comparable with no other bundle")
    assert facts["digest"] == bundle.digest and facts["layers"][0]["cosine_to_previous"] is None
    between = float(bundle.layers[1].direction @ bundle.layers[3].direction)
    assert facts["layers"][1]["cosine_to_previous"] == pytest.approx(between, abs=1e-3)
    assert [one["ceiling"] for one in facts["layers"]] == [
        bundle.layers[at].ceiling for at in (1, 3)
    ]
    assert facts["layers"][0]["risk_norm"] > 0 and facts["layers"][1]["risk_norm"] == 0
    (weights,) = out.glob("weights-*")
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(BundleError, match="sha256"):
        facts_of(out)


def test_inspect_shows_what_was_measured(folder: Path) -> None:
    out = trained(folder)
    terms: dict[str, Any] = {
        "requests_sha256": "a" * 64,
        "detector": "lexical",
        "answer_tokens": 12,
    }
    share = RefusedShare(strength=1.5, refused=3, requests=4, **terms)
    save_measured(out, load_bundle(out), [share])
    (shown,) = facts_of(out)["measured"]
    assert shown["strength"] == 1.5
    assert shown["refused"] == "75.0% of 4 harmful requests"
    assert shown["detector"] == "lexical"


def test_inspect_shows_our_own_files(folder: Path) -> None:
    trained(folder)
    rows = facts_of(folder / "a.safetensors")
    assert rows["rows"]["train / text / harmful"] == 30 and rows["usable"]
    vectors = facts_of(folder / "g.safetensors")
    assert [one["layer"] for one in vectors["layers"]] == [1, 3]
    for name in ("a.safetensors", "g.safetensors"):
        assert "tiny" in run("inspect", folder / name)


def test_a_path_that_cannot_be_written_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "taken").mkdir()
    arguments = ["golden", str(folder / "a.safetensors"), str(folder / "taken")]
    monkeypatch.setattr("sys.argv", ["refusal-steering", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    line = f"refusal-steering: {folder / 'taken'} is a folder; name a file to write\n"
    assert capsys.readouterr().err == line
