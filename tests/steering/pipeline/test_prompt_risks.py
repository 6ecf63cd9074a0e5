"""The risk along four prompts, by the gate's formula on the rows of the tiny model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from refusal_steering.bundle import save_bundle
from refusal_steering.calibration.model import CalibrationModel
from refusal_steering.calibration.model_folder import ModelFolder
from refusal_steering.calibration.token_rows.prompts import encode
from refusal_steering.coefficient import LayerSteering
from refusal_steering.errors import BundleError
from refusal_steering.gate.prompt_gate import PromptGate, TokenProbe
from refusal_steering.pipeline.prompt_risks import prompt_risks
from refusal_steering.prompts.families.conversation import Turn
from refusal_steering.report.measurements import PromptRisk
from refusal_steering.tools.risks import risks

LAYERS = (1, 2)


def random_gate(size: int) -> PromptGate:
    """Probes of a middling scale on both layers."""
    generator = torch.Generator().manual_seed(5)

    def draw() -> torch.Tensor:
        drawn: torch.Tensor = torch.randn(size, generator=generator) / size**0.5
        return drawn

    probes = {layer: TokenProbe(draw(), 0.1, draw(), draw(), 0.0) for layer in LAYERS}
    return PromptGate(probes, "both", threshold=0.4, width=2.0)


@pytest.fixture(scope="module")
def target(model: Path) -> CalibrationModel:
    return ModelFolder.open(model).load()


@pytest.fixture(scope="module")
def gate(target: CalibrationModel) -> PromptGate:
    return random_gate(target.identity("tiny").hidden_size)


@pytest.fixture(scope="module")
def found(target: CalibrationModel, gate: PromptGate) -> tuple[PromptRisk, ...]:
    return prompt_risks(target, gate)


def test_two_requests_stand_plainly_and_in_a_longer_wrapper(found: tuple[PromptRisk, ...]) -> None:
    names = [(prompt.label, prompt.form) for prompt in found]
    forms = ("plain", "long preamble")
    assert names == [(label, form) for label in ("harmful", "harmless") for form in forms]
    for plain, wrapped in (found[:2], found[2:]):
        assert len(wrapped.risks) > 2 * len(plain.risks)
    assert all(prompt.threshold == pytest.approx(0.5987, abs=1e-4) for prompt in found)


def test_risks_are_those_of_the_models_own_hidden_states(
    target: CalibrationModel, gate: PromptGate, found: tuple[PromptRisk, ...]
) -> None:
    plain = found[0]
    assert plain.request is not None
    start, end = plain.request
    sentence = "".join(plain.tokens[start:end]).strip()
    ids = encode(target, (Turn("user", sentence),))
    with torch.inference_mode():
        states = target.model(torch.tensor([ids]), output_hidden_states=True).hidden_states
    # The states begin with the embedding, one before the first layer's output.
    scores = torch.stack(
        [
            states[layer + 1][0].float() @ gate.probes[layer].weight + gate.probes[layer].bias
            for layer in LAYERS
        ]
    ).mean(0)
    expected = (2 * scores).sigmoid().tolist()[gate.count_from(ids) :]
    assert plain.risks == pytest.approx(expected, abs=1e-4)


def test_the_request_is_found_inside_its_wrapper(found: tuple[PromptRisk, ...]) -> None:
    for plain, wrapped in (found[:2], found[2:]):
        texts = []
        for prompt in (plain, wrapped):
            assert prompt.request is not None
            start, end = prompt.request
            texts.append("".join(prompt.tokens[start:end]).strip())
        assert texts[0] == texts[1] != ""


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_the_command_draws_the_same_bytes_twice(
    model: Path, gate: PromptGate, target: CalibrationModel, tmp_path: Path, kind: str
) -> None:
    size = target.identity("tiny").hidden_size
    layers = {2: LayerSteering.static(torch.ones(size) / size**0.5, 1.0)}
    section = {
        "name": "gated",
        "strategy": "promptgate",
        "model": target.identity("tiny"),
        "canary": {"token_ids": [1], "shift": {"1": 0.0}, "tolerance": 1.0},
    }
    save_bundle(tmp_path / "gated", layers, section, gate=gate)
    for name in ("a", "b"):
        risks(tmp_path / "gated", model, tmp_path / f"{name}.{kind}")
    first, second = ((tmp_path / f"{name}.{kind}").read_bytes() for name in ("a", "b"))
    assert first == second
    assert first.startswith(b"\x89PNG" if kind == "png" else b"<?xml")
    save_bundle(tmp_path / "plain", layers, {**section, "strategy": "static"})
    with pytest.raises(BundleError, match="has no gate"):
        risks(tmp_path / "plain", model, tmp_path / f"c.{kind}")


def test_tokens_and_risks_are_as_many(found: tuple[PromptRisk, ...]) -> None:
    with pytest.raises(Exception, match="as many of each"):
        replace(found[0], risks=found[0].risks[1:])
