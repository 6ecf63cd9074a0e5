"""``thresholds`` gives a gate one for each set of media, from harmless requests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from refusal_steering.bundle import RefusedShare, SteeringBundle, load_bundle, save_bundle
from refusal_steering.calibration.engine_arguments import ServedSettings
from refusal_steering.coefficient import LayerSteering
from refusal_steering.engine import EngineFacts, Messages
from refusal_steering.gate.prompt_gate import PromptGate, TokenProbe
from refusal_steering.pipeline.media.requests import read_requests
from refusal_steering.terms import media_set
from refusal_steering.tools import thresholds
from tests.steering.pipeline.media.conftest import data
from tests.steering.pipeline.media.fake_model import FACTS, HIDDEN, LAYERS, FakeModel, drawn
from tests.steering.tools.command_line import CommandLine

__all__ = ["data"]
BUDGET = 0.1
PROBE = TokenProbe.maximum(drawn("harm", HIDDEN) / HIDDEN**0.5, 0.0)
GATE = PromptGate({2: PROBE, 3: PROBE}, "max", threshold=1.5, width=0.5)
SHARE = RefusedShare(
    strength=1.0,
    refused=3,
    requests=4,
    requests_sha256="0" * 64,
    detector="lexical",
    answer_tokens=24,
)
PROMPTS: list[Messages] = [
    [{"role": "user", "content": f"How do I steal number {number}?"}] for number in range(6)
]


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> FakeModel:
    """Stands in for vLLM."""
    found = FakeModel()

    @contextmanager
    def running(facts: EngineFacts, _: ServedSettings, **read: object) -> Iterator[FakeModel]:
        assert facts is FACTS and read == {"steered": True, "gate_layers": GATE.layers}
        yield found

    monkeypatch.setattr(thresholds, "facts_of", lambda *_: FACTS)
    monkeypatch.setattr(thresholds, "running", running)
    monkeypatch.setattr(thresholds, "canary_texts", lambda: PROMPTS)
    return found


def written(path: Path, gate: PromptGate | None) -> SteeringBundle:
    """A bundle of one constant that was tried once."""
    harm = torch.nn.functional.normalize(drawn("refusal", HIDDEN), dim=0)
    manifest = {
        "name": "known-static",
        "strategy": "promptgate" if gate else "static",
        "model": {"id": "text alone", "hidden_size": HIDDEN, "num_layers": LAYERS},
        "measured": [SHARE.model_dump()],
    }
    return save_bundle(path, {4: LayerSteering.static(harm, 0.7)}, manifest, gate=gate)


def pictures_of(data: Path) -> Path:
    """The rows of ``data`` that bring an image, in a file beside it."""
    rows = data.read_text().splitlines()
    target = data.parent / "pictures.jsonl"
    target.write_text("\n".join(row for row in rows if "image" in json.loads(row)["modality"]))
    return target


@pytest.fixture
def served(tmp_path: Path) -> tuple[object, ...]:
    (tmp_path / "server.yaml").write_text("engine: {max_model_len: 512}")
    return ("--model", "m", "--served-by", tmp_path / "server.yaml", "--budget", BUDGET)


def openings(gate: PromptGate, data: Path, brought: str, *, harmful: bool) -> list[bool]:
    """Whether the gate opens for requests, by its formula on the model's rows."""
    asked = [
        one
        for one in read_requests(data).all
        if media_set(one.media) == brought and one.harmful is harmful
    ]
    prompts = FakeModel().prompt_rows([one.messages() for one in asked], gate.layers)
    return [
        gate.opening(gate.score(prompt.layers, gate.count_from(prompt.ids)).score, one.media) > 0.0
        for one, prompt in zip(asked, prompts, strict=True)
    ]


def test_every_set_of_media_keeps_the_budget_by_a_threshold_of_its_own(
    command: CommandLine, model: FakeModel, served: tuple[object, ...], data: Path, tmp_path: Path
) -> None:
    written(tmp_path / "known", replace(GATE, threshold=3.0))
    raised = (*served, "--may-raise")
    told = command("thresholds", tmp_path / "known", data, *raised, "-o", tmp_path / "new")
    assert told.status == 0, told.err
    bundle = load_bundle(tmp_path / "new")
    assert bundle.gate is not None and set(bundle.gate.media_thresholds) == {"text", "image"}
    assert bundle.gate.threshold == 3.0 and bundle.gate.digest == GATE.digest
    facts = bundle.manifest.calibration["media_thresholds"]
    for brought, threshold in bundle.gate.media_thresholds.items():
        harmless = openings(bundle.gate, data, brought, harmful=False)
        assert sum(harmless) / len(harmless) <= BUDGET
        assert facts["found"][brought]["count"] == len(harmless)
        assert facts["found"][brought]["value"] == pytest.approx(threshold)
        assert any(line.startswith(f"{brought}: opens above") for line in told.out)
        harmful = openings(bundle.gate, data, brought, harmful=True)
        assert sum(harmful) / len(harmful) >= 0.9
    assert bundle.require_canary().shift
    # What was tried is another bundle.
    assert bundle.manifest.measured == ()


def test_no_medium_raises_the_threshold_above_that_of_text(
    command: CommandLine, model: FakeModel, served: tuple[object, ...], data: Path, tmp_path: Path
) -> None:
    written(tmp_path / "known", replace(GATE, threshold=0.5))
    pictures = pictures_of(data)
    asked = ("thresholds", tmp_path / "known", pictures, *served)
    told = command(*asked, "-o", tmp_path / "new")
    raised = command(*asked, "--may-raise", "-o", tmp_path / "raised")
    assert told.status == raised.status == 0, told.err
    held, free = (load_bundle(tmp_path / name).gate for name in ("new", "raised"))
    assert held is not None and free is not None
    assert held.threshold_of(("image",)) == held.threshold_of(()) == 0.5
    assert free.threshold_of(("image",)) > 0.5
    assert f"{free.threshold_of(('image',)):.3g} would keep the budget" in "\n".join(told.out)
    assert "would keep" not in "\n".join(raised.out)


@pytest.mark.parametrize("may_raise", [False, True])
def test_media_that_the_file_does_not_bring_raise_nothing_either(
    command: CommandLine,
    model: FakeModel,
    served: tuple[object, ...],
    data: Path,
    tmp_path: Path,
    may_raise: bool,
) -> None:
    gate = replace(GATE, threshold=90.0, media_thresholds={"audio": 70.0, "text": 1.0})
    written(tmp_path / "known", gate)
    pictures = pictures_of(data)
    asked = ("thresholds", tmp_path / "known", pictures, *served, "-o", tmp_path / "new")
    told = command(*asked, *(["--may-raise"] if may_raise else []))
    assert told.status == 0, told.err
    found = load_bundle(tmp_path / "new").gate
    assert found is not None and found.threshold_of(()) == 1.0
    others = [found.threshold_of(media) for media in (("audio",), ("video",))]
    assert others == ([70.0, 90.0] if may_raise else [1.0, 1.0])


def test_what_the_file_does_not_bring_keeps_its_threshold(
    command: CommandLine, model: FakeModel, served: tuple[object, ...], data: Path, tmp_path: Path
) -> None:
    known = written(tmp_path / "known", replace(GATE, media_thresholds={"audio": -7.0}))
    pictures = pictures_of(data)
    told = command("thresholds", tmp_path / "known", pictures, *served, "-o", tmp_path / "new")
    assert told.status == 0, told.err
    bundle = load_bundle(tmp_path / "new")
    assert bundle.gate is not None
    assert bundle.gate.media_thresholds["audio"] == -7.0
    assert bundle.gate.threshold_of(()) == bundle.gate.threshold_of(("video",)) == 1.5
    assert bundle.gate.threshold_of(("image",)) != 1.5
    for at, layer in bundle.layers.items():
        assert torch.equal(layer.direction, known.layers[at].direction)


def test_a_set_with_too_few_requests_is_named_and_left(
    command: CommandLine, model: FakeModel, served: tuple[object, ...], data: Path, tmp_path: Path
) -> None:
    written(tmp_path / "known", GATE)
    rows = data.read_text().splitlines()
    few = [line for line in rows if json.loads(line)["modality"] == "text"][:8]
    mixed = data.parent / "mixed.jsonl"
    mixed.write_text("\n".join([*few, *(r for r in rows if json.loads(r)["modality"] == "image")]))
    told = command("thresholds", tmp_path / "known", mixed, *served, "-o", tmp_path / "new")
    assert told.status == 0, told.err
    assert "note: 4 harmless requests of text are too few; they keep 1.5" in "\n".join(told.err)
    gate = load_bundle(tmp_path / "new").gate
    assert gate is not None and set(gate.media_thresholds) == {"image"}


@pytest.mark.parametrize(
    ("gated", "options", "said"),
    [
        (True, ("--budget", "0.001"), "a budget of 0.001 takes 999 harmless requests"),
        (True, ("--budget", "2"), "expected a share between 0 and 1"),
        (False, (), "has no gate that reads prompts"),
    ],
)
def test_what_cannot_be_done_is_said_before_the_engine_starts(
    command: CommandLine,
    model: FakeModel,
    served: tuple[object, ...],
    data: Path,
    tmp_path: Path,
    gated: bool,
    options: tuple[str, ...],
    said: str,
) -> None:
    written(tmp_path / "known", GATE if gated else None)
    asked = ("thresholds", tmp_path / "known", data, *served, "-o", tmp_path / "new", *options)
    assert said in command.refusal(*asked)
    assert model.asked == {} and not (tmp_path / "new").exists()


def test_a_model_of_windows_alone_has_no_gate_to_move(
    command: CommandLine,
    model: FakeModel,
    monkeypatch: pytest.MonkeyPatch,
    served: tuple[object, ...],
    data: Path,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(thresholds, "facts_of", lambda *_: replace(FACTS, keeps_prompts=False))
    written(tmp_path / "known", GATE)
    asked = ("thresholds", tmp_path / "known", data, *served, "-o", tmp_path / "new")
    assert "no layer with full attention" in command.refusal(*asked)
    assert not model.asked
