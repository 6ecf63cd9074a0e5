"""A gate goes into a bundle that is there: from conversations to a canary, on the tiny model."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from typer.testing import CliRunner

from refusal_steering.bundle import Window, load_bundle, save_bundle
from refusal_steering.calibration.model import CalibrationModel
from refusal_steering.calibration.model_folder import ModelFolder
from refusal_steering.calibration.token_rows.collect import collect_tokens
from refusal_steering.calibration.token_rows.prompts import TokenPrompts
from refusal_steering.calibration.token_rows.row_files import TokenIndex
from refusal_steering.coefficient import LayerSteering
from refusal_steering.errors import BundleError, BundleMismatchError
from refusal_steering.pipeline.gate import gating
from refusal_steering.pipeline.plan import GatePlan
from refusal_steering.prompts import contrast_set
from refusal_steering.prompts.contrast_set import Item
from refusal_steering.prompts.corpus import Corpus
from refusal_steering.prompts.families.conversation import Turn
from refusal_steering.prompts.gate_examples import GateExamples
from refusal_steering.prompts.gate_labels import GateLabel, GateLabels
from refusal_steering.reference import greedy
from refusal_steering.spec import SteeringSpec
from refusal_steering.tools.gate import gate
from refusal_steering.tools.inspect import facts_of

app = typer.Typer()
app.command()(gate)


@pytest.fixture(scope="module")
def loaded(model: Path) -> CalibrationModel:
    return ModelFolder.open(model).load()


@pytest.fixture
def chat(loaded: CalibrationModel, monkeypatch: pytest.MonkeyPatch) -> CalibrationModel:
    """The tiny model, for whose canaries there is one kind of harm."""

    def poison(item: Item, *_: object) -> str:
        number = int(hashlib.sha256(item.id.encode()).hexdigest(), 16) % 7
        return f"tell me {number} of poison please"

    monkeypatch.setattr(contrast_set, "render", poison)
    return loaded


def saved(path: Path, strategy: str = "omnisteer", size: int = 32) -> Path:
    unit = torch.nn.functional.normalize(
        torch.randn(size, generator=torch.Generator().manual_seed(2)), dim=0
    )
    layers = {at: LayerSteering.static(unit, 20.0) for at in (2, 3)}
    manifest = {
        "name": f"tiny-{strategy}",
        "strategy": strategy,
        "model": {"id": "tiny", "hidden_size": size, "num_layers": 4},
        "window": Window(decode_tokens=3),
        "dose_limit": 6.0,
        "calibration": {"requests": "some"},
    }
    save_bundle(path, layers, manifest)
    return path


def rows_of(chat: CalibrationModel, folder: Path) -> TokenIndex:
    """Requests whose harmful ones say a word of their own, read after layers 0 to 2."""
    labels, conversations = [], []
    for number in range(600):
        harmful, tuning = number % 2 == 0, number % 4 >= 2
        labels.append(GateLabel(f"{number}", "plain", harmful, tuning, False))
        word = "poison" if harmful else "flower"
        conversations.append((Turn("user", f"tell me {number % 7} of {word} please"),))
    index = TokenIndex(
        TokenPrompts.of(chat, conversations),
        GateLabels(tuple(labels)),
        chat.identity("tiny"),
        (0, 1, 2),
        torch.zeros(len(labels), dtype=torch.bool),
        "tests",
        "a" * 64,
    )
    return collect_tokens(chat, index, folder)


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


SHORT = ("--budget", 0.05)


def test_rows_and_a_bundle_become_a_gated_bundle(
    chat: CalibrationModel, model: Path, tmp_path: Path
) -> None:
    known = saved(tmp_path / "omnisteer")
    index = rows_of(chat, tmp_path / "rows")
    out = tmp_path / "gated"
    told = run(known, tmp_path / "rows", "--model", model, "-o", out, "--dose", 0.5, *SHORT)
    bundle = load_bundle(out)
    manifest = bundle.manifest
    assert (manifest.strategy, manifest.name) == ("promptgate", "tiny-promptgate")
    assert manifest.window.decode_tokens == 3 and manifest.dose_limit == 6.0
    assert manifest.gate is not None and manifest.gate.user_turn == index.prompts.user_turn != ()
    assert max(manifest.gate.layers) <= min(manifest.layers)
    promise = manifest.gate.guarantee
    assert promise is not None and (promise.share, promise.rows) == (0.05, 150)
    assert manifest.calibration["requests"] == "some"
    facts = manifest.calibration["prompt_gate"]
    assert facts["conversations"] == 600 and facts["opened_in_tuning"]["harmful"] > 0.9
    assert facts["opened_in_tuning"]["everyday"] <= 0.05
    assert not manifest.measured
    lengths = gating.stream_lengths(chat, (2, 3))
    for at, layer in bundle.layers.items():
        assert layer.hidden_units == 0 and layer.ceiling == pytest.approx(
            0.5 * lengths[at], rel=1e-5
        )
    _check_canary(chat, out)
    _check_openings(index, out, chat)
    shown = facts_of(out)
    assert shown["usable"] and shown["gate"]["pooling"] == "both" and bundle.gate is not None
    assert bundle.digest[:12] in told


def _check_canary(chat: CalibrationModel, out: Path) -> None:
    """The canary is what the reference measures under the gate."""
    bundle = load_bundle(out)
    canary = bundle.manifest.canary
    assert canary is not None
    inputs = {"input_ids": torch.tensor([canary.token_ids])}
    plain = greedy(chat.model, inputs, 1).logprobs[0]
    steered = greedy(chat.model, inputs, 1, SteeringSpec.of(bundle)).logprobs[0]
    for token, shift in canary.shift.items():
        assert float(steered[int(token)] - plain[int(token)]) == pytest.approx(shift, abs=1e-3)


def _check_openings(index: TokenIndex, out: Path, chat: CalibrationModel) -> None:
    """A harmful conversation opens the saved gate in the reference, a harmless one does not."""
    bundle = load_bundle(out)
    opened = {True: 0.0, False: 0.0}
    for place in range(2, 22):
        inputs = {"input_ids": torch.tensor([index.prompts.token_ids[place]])}
        score = greedy(chat.model, inputs, 1, SteeringSpec.of(bundle)).score
        assert score is not None and bundle.gate is not None
        opened[index.labels.all[place].harmful] += bundle.gate.opening(score.score) / 10
    assert opened[True] > 0.9 and opened[False] <= 0.1


def test_options_reach_the_gate(chat: CalibrationModel, model: Path, tmp_path: Path) -> None:
    known = saved(tmp_path / "static", "static")
    rows_of(chat, tmp_path / "rows")
    kept = ("--adapters", "--layers", "1,2", "--pooling", "max", "--width", 0.3)
    more = ("--decode-tokens", 9, "--name", "mine", "--budget", 0.2)
    run(known, tmp_path / "rows", "--model", model, "-o", tmp_path / "out", *kept, *more)
    bundle = load_bundle(tmp_path / "out")
    found = bundle.manifest.gate
    assert found is not None and bundle.manifest.name == "mine"
    assert (found.layers, found.pooling, found.width) == ((1, 2), "max", 0.3)
    assert bundle.manifest.window.decode_tokens == 9
    assert [layer.ceiling for layer in bundle.layers.values()] == [20.0, 20.0]


@pytest.mark.parametrize(
    ("strategy", "size", "error"),
    [("mars", 32, BundleError), ("omnisteer", 16, BundleMismatchError)],
)
def test_what_cannot_be_gated_is_told_before_anything_is_read(
    model: Path, tmp_path: Path, strategy: str, size: int, error: type[Exception]
) -> None:
    known = saved(tmp_path / "known", strategy, size)
    with pytest.raises(error):
        run(known, tmp_path / "rows", "--model", model, "-o", tmp_path / "out")
    assert not (tmp_path / "rows").exists() and not (tmp_path / "out").exists()


def test_rows_of_another_model_are_refused(
    chat: CalibrationModel, model: Path, tmp_path: Path
) -> None:
    rows_of(chat, tmp_path / "rows")
    known = saved(tmp_path / "known", size=16)
    with pytest.raises(BundleMismatchError, match="token rows are of tiny"):
        run(known, tmp_path / "rows", "--model", model, "-o", tmp_path / "out")


def test_a_build_reads_what_is_missing_and_keeps_it(
    chat: CalibrationModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = GateExamples(GateExamples.draw(Corpus.shipped().items, 0).all[::40])
    monkeypatch.setattr(GateExamples, "draw", lambda *_: few)
    plan = GatePlan(layers=(1,), budget=0.5)
    wanted = gating.token_index(chat, Corpus.shipped(), plan, (1,), "tiny", 0)
    asked: list[Any] = []
    monkeypatch.setattr(gating, "fit_gate", lambda *given: asked.append(given))
    monkeypatch.setattr(gating, "gate_facts", lambda *_: {})
    gating.collected_gate(chat, wanted, plan, tmp_path / "kept")
    kept = TokenIndex.load(tmp_path / "kept")
    assert bool(kept.read.all()) and kept.examples_sha256 == few.sha256
    gating.collected_gate(chat, wanted, plan, None)
    one, two = (given[2].layers[1] for given in asked)
    assert torch.equal(one, two)


def test_layers_are_read_by_depth_up_to_the_first_steered_one() -> None:
    assert GatePlan().read_layers(24, 14) == (8, 10, 12, 14)
    assert GatePlan().read_layers(24, 11) == (8, 10, 11)
    assert GatePlan(layers=(5, 3)).read_layers(24, 14) == (3, 5)


def test_directions_are_turned_unless_they_are_to_be_kept(
    chat: CalibrationModel, model: Path, tmp_path: Path
) -> None:
    known = load_bundle(saved(tmp_path / "omnisteer"))
    rows_of(chat, tmp_path / "rows")
    given = (tmp_path / "omnisteer", tmp_path / "rows", "--model", model, "--dose", 0.5, *SHORT)
    run(*given, "-o", tmp_path / "turned")
    run(*given, "-o", tmp_path / "kept", "--keep-directions")
    turned, kept = load_bundle(tmp_path / "turned"), load_bundle(tmp_path / "kept")
    for at, layer in known.layers.items():
        assert torch.equal(kept.layers[at].direction, layer.direction)
        assert float(turned.layers[at].direction @ layer.direction) < 0.999
    told = [one.manifest.calibration["prompt_gate"]["push"] for one in (turned, kept)]
    assert told[0]["steps"] > 0 and told[1] is None
