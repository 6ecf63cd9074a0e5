"""Directions of a gate that are turned by gradients between two runs of the engine."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from refusal_steering.bundle import ModelIdentity, load_bundle
from refusal_steering.calibration.model import CalibrationModel
from refusal_steering.coefficient import LayerSteering
from refusal_steering.errors import SteeringError, UnsupportedModelError
from refusal_steering.methods.refine import Refinement
from refusal_steering.methods.surprise import answer_ids, prime, surprise
from refusal_steering.pipeline.media.build import build_media, turning_of
from refusal_steering.pipeline.media.plan import MediaPlan
from refusal_steering.pipeline.media.refinement import transformers_model
from refusal_steering.pipeline.media.refinement import turning as turning_module
from refusal_steering.pipeline.media.refinement.transformers_model import TransformersModel
from refusal_steering.pipeline.media.refinement.turning import Turning, not_turned
from refusal_steering.pipeline.media.requests import Requests
from refusal_steering.pipeline.media.vectors import Vectors
from refusal_steering.pipeline.media.work import FOLDER, Work
from refusal_steering.pipeline.stages import Stages
from refusal_steering.spec import SteeringSpec
from tests.steering.pipeline.media.conftest import GATE, PLAN
from tests.steering.pipeline.media.fake_model import HIDDEN, LAYERS, FakeModel, FakeTokenizer, twin

HOW = Refinement(
    refusal="no, never", dose=1.0, prompts=24, spread=(1.0, 1.0), silence=0.0, loyalty=0.0, steps=20
)
REFINED: MediaPlan = replace(
    PLAN,
    strategies=("static", "promptgate"),
    gate=replace(GATE, push=HOW),
    doses=(),
    refine=True,
)


@pytest.fixture(scope="module")
def whole() -> CalibrationModel:
    """A model in transformers of the fake engine's size, whose answers depend on its layers."""
    return CalibrationModel(twin(spread=0.2), FakeTokenizer())


@pytest.fixture(scope="module")
def out(requests: Requests, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a build whose directions nobody has turned yet."""
    folder = tmp_path_factory.mktemp("refined")
    with pytest.raises(SteeringError, match="have not been refined"):
        build_media(FakeModel(), requests, REFINED, folder)
    return folder


@pytest.fixture(scope="module")
def turning(out: Path, requests: Requests) -> Turning:
    engine = FakeModel()
    found = turning_of(engine, requests, REFINED, out, Stages())
    # Rows and prompts are there from the build that came to nothing.
    assert "rows" not in engine.asked and "answers" not in engine.asked
    return found


@pytest.fixture(scope="module")
def turned(turning: Turning, whole: CalibrationModel, out: Path) -> Vectors:
    return turning.turned(Work(out / FOLDER), lambda: whole)


def test_turned_directions_make_the_refusal_likelier(
    turning: Turning, turned: Vectors, whole: CalibrationModel
) -> None:
    golden = {at: one.unit for at, one in turning.directions.items()}
    assert golden
    after = _nats(whole, turning, {at: turned.golden[at] for at in golden})
    assert after < _nats(whole, turning, golden) - 0.05


def test_directions_are_turned_once(turning: Turning, turned: Vectors, out: Path) -> None:
    again = turning.turned(Work(out / FOLDER), not_turned)
    assert again.digest == turned.digest != turning.vectors.digest
    for at, unit in turned.golden.items():
        torch.testing.assert_close(again.golden[at], unit, rtol=0, atol=0)


def test_the_gate_alone_opens_what_was_turned(
    turning: Turning, turned: Vectors, out: Path, requests: Requests
) -> None:
    built = build_media(FakeModel(), requests, REFINED, out)
    assert built.left_out.reasons == {}
    gated, static = load_bundle(out / "promptgate"), load_bundle(out / "static")
    assert set(gated.layers) == set(turning.directions)
    for at, layer in gated.layers.items():
        torch.testing.assert_close(layer.direction, turned.golden[at])
    for at, layer in static.layers.items():
        golden = turning.vectors.golden[at]
        torch.testing.assert_close(layer.direction, golden / golden.norm())
    push = gated.manifest.calibration["push"]
    assert push["steps"] == HOW.steps and set(push["cosine_to_golden"]) == {"3"}


def test_layers_without_a_direction_turn_nothing(turning: Turning, out: Path) -> None:
    bare = replace(turning, directions={})
    assert bare.turned(Work(out / FOLDER), not_turned) is turning.vectors


def test_a_template_that_is_longer_than_any_prompt_may_be_is_one_line(
    requests: Requests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turning_module, "LONGEST", 3)
    with pytest.raises(SteeringError, match="has at most 3 tokens under this chat template"):
        turning_of(FakeModel(), requests, REFINED, tmp_path, Stages())


def _nats(target: CalibrationModel, turning: Turning, units: dict[int, Tensor]) -> float:
    layers = {
        at: LayerSteering.static(unit, HOW.dose * turning.directions[at].scale)
        for at, unit in units.items()
    }
    spec = SteeringSpec.of_parts(layers, turning.window, dose_limit=turning.dose_limit)
    refusal = answer_ids(target, HOW.refusal)
    prompts: list[list[int]] = turning.prompts.facts["ids"]
    (batch,) = target.encoded_batches(prompts, len(prompts))
    with torch.no_grad():
        return float(surprise(target, prime(target, batch), refusal, spec))


KNOWN = ModelIdentity(id="m", hidden_size=HIDDEN, num_layers=LAYERS)
SIZES = {"hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": 4}
THINKER = {"thinker_config": {"model_type": "qwen2_5_omni_thinker", "text_config": SIZES}}


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"model_type": "llama", **SIZES}, "LlamaForCausalLM"),
        ({"model_type": "llava", "text_config": SIZES}, "LlavaForConditionalGeneration"),
        (
            {"model_type": "qwen2_5_omni", **THINKER},
            "Qwen2_5OmniThinkerForConditionalGeneration",
        ),
    ],
)
def test_a_model_is_loaded_as_the_class_that_answers_in_text(
    config: dict[str, Any], kind: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert TransformersModel.of(str(tmp_path), {}, KNOWN).kind == kind


@pytest.mark.parametrize(
    ("config", "engine", "complaint"),
    [
        ({"model_type": "bert", **SIZES}, {"quantization": "fp8"}, "quantised"),
        (
            {"model_type": "llama", **SIZES, "quantization_config": {"quant_method": "awq"}},
            {},
            "quantised",
        ),
        ({"model_type": "vit", **SIZES}, {}, "has no class of its own for"),
        ({"model_type": "llama", **SIZES, "num_hidden_layers": 9}, {}, "has 9 layers of width 24"),
        ({"model_type": "nobody's"}, {}, "cannot load the configuration"),
        (
            {"model_type": "llava", "text_config": SIZES},
            {"hf_overrides": {"text_config": {"num_hidden_layers": 5}}},
            "has 5 layers of width 24",
        ),
    ],
)
def test_what_cannot_be_refined_is_one_line(
    config: dict[str, Any], engine: dict[str, Any], complaint: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedModelError, match=complaint) as raised:
        TransformersModel.of(str(tmp_path), engine, KNOWN)
    assert "leave --refine out" in str(raised.value) and "\n" not in str(raised.value)


def test_missing_weights_are_not_random_numbers(whole: CalibrationModel, tmp_path: Path) -> None:
    whole.model.save_pretrained(tmp_path, state_dict={"model.norm.weight": torch.ones(HIDDEN)})
    model = TransformersModel.of(str(tmp_path), {}, KNOWN)
    with pytest.raises(UnsupportedModelError, match="weights of LlamaForCausalLM are missing"):
        model.load(FakeTokenizer(), {})


def test_a_cpu_that_is_slow_in_half_precision_refines_in_float32(
    whole: CalibrationModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole.model.save_pretrained(tmp_path)
    model = TransformersModel.of(str(tmp_path), {"dtype": "bfloat16"}, KNOWN)
    for slow, expected in ((True, torch.float32), (False, torch.bfloat16)):
        monkeypatch.setattr(transformers_model, "slow_on_this_cpu", lambda _, slow=slow: slow)
        assert model.load(FakeTokenizer(), {}).model.dtype == expected
