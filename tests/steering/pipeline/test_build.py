"""A build of a tiny random model: what cannot be built is left out, and the rest is saved."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from refusal_steering.bundle import Canary, load_bundle
from refusal_steering.calibration.model import CalibrationModel
from refusal_steering.calibration.model_folder import ModelFolder
from refusal_steering.calibration.token_rows.row_files import TokenIndex
from refusal_steering.errors import SteeringError
from refusal_steering.pipeline import build as building
from refusal_steering.pipeline import requests
from refusal_steering.pipeline.parts import LeftOut
from refusal_steering.pipeline.plan import BuildPlan, GatePlan
from refusal_steering.pipeline.requests import refuse_swapped
from refusal_steering.prompts.corpus import Corpus
from tests.steering.tools.command_line import CommandLine


@pytest.fixture
def own(tmp_path: Path) -> tuple[Path, Path]:
    """Two files of requests."""
    paths = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    for path, word in zip(paths, ("steal", "paint"), strict=True):
        lines = [json.dumps({"prompt": f"How do I {word} number {n}?"}) for n in range(150)]
        path.write_text("\n".join(lines))
    return paths


def test_what_cannot_be_built_is_left_out(
    own: tuple[Path, Path],
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command, out = CommandLine(monkeypatch, capsys), tmp_path / "out"
    files = ("--harmful", own[0], "--harmless", own[1], "--budget", 0.1)
    # A random model refuses nothing, so that there is nothing that RAS could steer towards.
    ended = command(
        "build", "--model", model, "-o", out, *files, "--layers", "1,2", "--no-report", "--no-gate"
    )
    assert ended.status == 1
    left_out = [line.split(" ", 1)[0] for line in ended.err if "is left out: the model ref" in line]
    assert {"ras", "cascade"} <= set(left_out)
    saved = {path.name for path in out.iterdir()}
    assert saved and saved.isdisjoint(left_out)
    for name in saved:
        assert load_bundle(out / name).manifest.canary is not None


@pytest.fixture
def corpus(monkeypatch: pytest.MonkeyPatch) -> Corpus:
    """A part of the contrast set, and a canary, for which a random model is moved too little."""
    canary = Canary(token_ids=(1,), shift={"1": 1.0}, tolerance=0.1)
    monkeypatch.setattr(building, "choose_canary", lambda *_: canary)
    shipped = Corpus.shipped()
    return replace(shipped, items=shipped.items[::16])


def test_a_model_of_windows_alone_gets_no_gate_and_all_the_rest(
    model: Path, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = BuildPlan(layers=(2, 3), budget=0.3, gate=GatePlan(budget=0.1, families=1))
    plan = replace(plan, recipe=replace(plan.recipe, steps=100, members=1))
    target = ModelFolder.open(model).load()
    # The model itself goes on as it is: its layers were made by what was configured before.
    monkeypatch.setattr(CalibrationModel, "keeps_prompts", False)
    built = building.build(target, corpus, plan, tmp_path, "tiny", token_rows=tmp_path / "rows")
    assert "no layer with full attention" in built.left_out["promptgate"]
    assert {"static", "omnisteer", "mars"} <= set(built.bundles)
    assert built.gate is None and not (tmp_path / "rows").exists()


def test_a_gate_of_the_plan_is_trained_and_saved(
    model: Path, corpus: Corpus, tmp_path: Path
) -> None:
    base = BuildPlan(layers=(2, 3), budget=0.3)
    assert base.gate is not None
    recipe = base.gate.recipe
    recipe = replace(
        recipe,
        maximum=replace(recipe.maximum, steps=10),
        attention=replace(recipe.attention, steps=10),
    )
    gate = replace(base.gate, recipe=recipe, budget=0.1, families=1)
    plan = replace(base, gate=gate, recipe=replace(base.recipe, steps=100, members=1))
    target = ModelFolder.open(model).load()
    built = building.build(target, corpus, plan, tmp_path, "tiny", token_rows=tmp_path / "rows")
    bundle = load_bundle(tmp_path / "promptgate")
    found = bundle.manifest.gate
    assert found is not None and found.guarantee is not None and built.gate is not None
    assert bundle.digest == built.bundles["promptgate"].digest
    assert found.layers == gate.read_layers(4, 2) and found.guarantee.share == 0.1
    assert bundle.gate is not None and bundle.gate.digest == built.gate.opened.gate.digest
    facts = bundle.manifest.calibration["prompt_gate"]
    index = TokenIndex.load(tmp_path / "rows")
    assert facts["examples_sha256"] == index.examples_sha256 and bool(index.read.all())
    for at, layer in bundle.layers.items():
        assert layer.hidden_units == 0
        scale = built.adaptive.directions[at].scale
        assert layer.ceiling == pytest.approx(gate.dose * scale)
    assert all(load_bundle(tmp_path / name).gate is None for name in ("static", "omnisteer"))


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        (GatePlan(layers=(3,)), "cannot read layer 3"),
        (GatePlan(layers=(-1, 1)), "cannot read layer -1"),
        (GatePlan(budget=0.0001), "cannot guarantee"),
    ],
)
def test_a_gate_that_cannot_be_is_told_before_any_work(gate: GatePlan, message: str) -> None:
    plan = BuildPlan(layers=(2, 3), gate=gate)
    with pytest.raises(SteeringError, match=message):
        plan.check(Corpus.shipped(), 4)


def fail(reason: str) -> None:
    raise SteeringError(reason)


@pytest.mark.parametrize("strategies", [("a",), ("a", "b"), ("b", "a", "c")])
def test_the_first_reason_is_kept(strategies: tuple[str, ...]) -> None:
    left_out = LeftOut()
    for names, reason in ((strategies, "first"), (("a",), "second")):
        with left_out.unless(*names):
            fail(reason)
    with left_out.unless("d"):
        pass
    assert left_out.reasons == dict.fromkeys(strategies, "first")
    with pytest.raises(ZeroDivisionError), left_out.unless("a"):
        _ = 1 / 0


@pytest.mark.parametrize(
    ("refused", "swapped"),
    [
        ((1.0, 0.0), False),
        ((0.0, 0.0), False),
        ((0.9, 0.3), False),
        ((0.4, 0.5), False),
        ((0.0, 0.9), True),
        ((0.1, 0.3), True),
        ((0.3, 1.0), True),
    ],
)
def test_swapped_files_are_told_by_the_models_answers(
    own: tuple[Path, Path],
    target: CalibrationModel,
    monkeypatch: pytest.MonkeyPatch,
    refused: tuple[float, float],
    swapped: bool,
) -> None:
    def some(_: CalibrationModel, prompts: Sequence[str]) -> list[str]:
        share = refused[0] if "steal" in prompts[0] else refused[1]
        return list(prompts[: round(share * len(prompts))])

    monkeypatch.setattr(requests, "refused_of", some)
    corpus = Corpus.of_files(*own)
    if swapped:
        with pytest.raises(SteeringError, match="swapped"):
            refuse_swapped(target, corpus)
    else:
        refuse_swapped(target, corpus)
    refuse_swapped(target, Corpus.shipped())


def test_a_build_ends_where_the_files_are_swapped(
    own: tuple[Path, Path],
    target: CalibrationModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def swapped(*_: object) -> None:
        raise SteeringError("swapped")

    def rows(*_: object) -> Callable[..., None]:
        raise AssertionError("rows were read")

    monkeypatch.setattr(building, "refuse_swapped", swapped)
    monkeypatch.setattr(building, "collect", rows)
    plan = BuildPlan(layers=(1, 2), budget=0.1)
    with pytest.raises(SteeringError, match="swapped"):
        building.build(target, Corpus.of_files(*own), plan, tmp_path / "out", "tiny")


def test_a_model_with_capped_logits_gets_no_ras(model: Path) -> None:
    from refusal_steering.methods.ras import refusal_prototypes

    target = ModelFolder.open(model).load()
    target.model.config.final_logit_softcapping = 30.0
    with pytest.raises(SteeringError, match="caps its logits"):
        refusal_prototypes(target, ["x"], 3, 0.3)
