"""``gate --served-by`` teaches media to the gate of a bundle that is there; its push stays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from refusal_steering.bundle import SteeringBundle, load_bundle, save_bundle
from refusal_steering.calibration.engine_arguments import ServedSettings
from refusal_steering.coefficient import LayerSteering
from refusal_steering.engine import EngineFacts, Messages
from refusal_steering.pipeline.media.gate.examples import gate_texts
from refusal_steering.pipeline.media.requests import TEXT, Requests, read_requests
from refusal_steering.pipeline.plan import GatePlan
from refusal_steering.tools import gate, served_gate
from tests.steering.pipeline.media.conftest import PLAN, RECIPE, data
from tests.steering.pipeline.media.fake_model import FACTS, HIDDEN, LAYERS, FakeModel, drawn
from tests.steering.tools.command_line import CommandLine

__all__ = ["data"]
GROUPS = (TEXT, "image", "text+image")
PUSHED = (3, 4)
PROMPTS: list[Messages] = [
    [{"role": "user", "content": f"How do I {word} number {number}?"}]
    for word in ("steal", "paint")
    for number in range(6)
]


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> FakeModel:
    """Stands in for vLLM, with a smaller share of the wordings and fewer steps of training."""
    found = FakeModel()

    @contextmanager
    def running(facts: EngineFacts, _: ServedSettings, **read: object) -> Iterator[FakeModel]:
        assert facts is FACTS and read == {"steered": True, "gate_layers": (2, 3)}
        yield found

    monkeypatch.setattr(served_gate, "facts_of", lambda *_: FACTS)
    monkeypatch.setattr(served_gate, "running", running)
    share = partial(gate_texts, share=PLAN.texts)
    monkeypatch.setattr(served_gate, "gate_texts", lambda seed, families, _: share(seed, families))
    monkeypatch.setattr(gate, "canary_texts", lambda: PROMPTS)
    monkeypatch.setattr(gate, "_RECIPE", RECIPE)
    monkeypatch.setattr(gate, "_PLAN", GatePlan(layers=(2, 3), recipe=RECIPE, budget=0.1))
    return found


@pytest.fixture
def server(tmp_path: Path) -> Path:
    path = tmp_path / "server.yaml"
    path.write_text("engine: {max_model_len: 512}")
    return path


@pytest.fixture
def known(tmp_path: Path) -> SteeringBundle:
    """A bundle of two constants, without a gate."""
    harm = torch.nn.functional.normalize(drawn("refusal", HIDDEN), dim=0)
    manifest = {
        "name": "known-static",
        "strategy": "static",
        "model": {"id": "text alone", "hidden_size": HIDDEN, "num_layers": LAYERS},
        "window": {"decode_tokens": 3, "hold": True},
        "dose_limit": 0.5,
    }
    layers = {at: LayerSteering.static(harm, 0.7) for at in PUSHED}
    return save_bundle(tmp_path / "known", layers, manifest)


def opened(bundle: SteeringBundle, requests: Requests, places: Sequence[int]) -> float:
    """The share of requests that the gate opens for, by its formula on the model's rows."""
    found = bundle.gate
    assert found is not None
    asked = [requests.all[place] for place in places]
    prompts = FakeModel().prompt_rows([one.messages() for one in asked], found.layers)
    openings = [
        found.opening(found.score(prompt.layers, found.count_from(prompt.ids)).score, one.media)
        for one, prompt in zip(asked, prompts, strict=True)
    ]
    return sum(opening > 0.0 for opening in openings) / len(openings)


def test_the_gate_opens_for_harm_in_media_and_the_push_is_the_bundles_own(
    command: CommandLine,
    model: FakeModel,
    server: Path,
    known: SteeringBundle,
    data: Path,
    tmp_path: Path,
) -> None:
    served = ("--model", "m", "--served-by", server, "--data", data, "--budget", 0.1)
    asked = ("gate", tmp_path / "known", tmp_path / "work", *served)
    told = command(*asked, "--adapters", "-o", tmp_path / "gated")
    assert told.status == 0, told.err
    bundle, requests = load_bundle(tmp_path / "gated"), read_requests(data)
    for group in GROUPS:
        assert opened(bundle, requests, requests.chosen("held", group, True)) >= 0.9
        assert opened(bundle, requests, requests.chosen("held", group, False)) <= 0.15
        assert bundle.manifest.calibration["thresholds"][group]["budget"] == 0.1
        assert any(line.endswith(f"harmful tuning requests: {group}") for line in told.out)
    assert bundle.manifest.strategy == "promptgate" and bundle.require_canary().shift
    assert set(bundle.layers) == set(PUSHED)
    for at, layer in bundle.layers.items():
        assert torch.equal(layer.direction, known.layers[at].direction)
        assert float(layer.coefficient(torch.zeros(HIDDEN))) == pytest.approx(0.7, rel=1e-3)

    # Prompts that have been read are not read again, whatever becomes of the push.
    before = model.asked["prompt_rows"]
    again = command(*asked, "--dose", 0.4, "-o", tmp_path / "stronger")
    assert again.status == 0 and model.asked["prompt_rows"] == before + 1
    stronger = load_bundle(tmp_path / "stronger")
    length = FakeModel().rows(PROMPTS).norm(dim=-1).median(0).values
    for at, layer in stronger.layers.items():
        dose = float(layer.coefficient(torch.zeros(HIDDEN)) / length[at])
        assert dose == pytest.approx(0.4, rel=1e-3)


def test_a_model_of_windows_alone_is_refused_a_gate_before_work(
    command: CommandLine,
    model: FakeModel,
    monkeypatch: pytest.MonkeyPatch,
    server: Path,
    known: SteeringBundle,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(served_gate, "facts_of", lambda *_: replace(FACTS, keeps_prompts=False))
    served = ("--model", "m", "--served-by", server, "-o", tmp_path / "gated")
    said = command.refusal("gate", tmp_path / "known", tmp_path / "work", *served)
    assert "no layer with full attention" in said
    assert not model.asked and not (tmp_path / "gated").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--data", "DATA"), "--data is read by the engine that serves; give --served-by"),
        (("--served-by", "SERVER", "--width", "0.5"), "--width is found by the engine"),
        (("--served-by", "SERVER", "--data", "DATA", "--budget", "0.01"), "budget of 0.01"),
        (("--media-budget", "0.2"), "--data is read by the engine that serves; give --served-by"),
        (
            (
                "--served-by",
                "SERVER",
                "--data",
                "DATA",
                "--budget",
                "0.1",
                "--media-budget",
                "0.01",
            ),
            "budget of 0.01",
        ),
        (("--served-by", "SERVER", "--data", "missing.jsonl"), "missing.jsonl"),
    ],
)
def test_what_cannot_be_done_is_said_before_the_engine_starts(
    command: CommandLine,
    model: FakeModel,
    server: Path,
    known: SteeringBundle,
    data: Path,
    tmp_path: Path,
    options: tuple[str, ...],
    said: str,
) -> None:
    given = [{"DATA": data, "SERVER": server}.get(one, one) for one in options]
    asked = ("gate", tmp_path / "known", tmp_path / "work", "--model", "m", "-o", tmp_path / "new")
    assert said in command.refusal(*asked, *given)
    assert model.asked == {} and not (tmp_path / "new").exists()
