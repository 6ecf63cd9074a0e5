"""A build of a tiny random model: what cannot be built is left out, and the rest is saved."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from refusal_steering.bundle import load_bundle
from refusal_steering.calibration.model import CalibrationModel
from refusal_steering.calibration.model_folder import ModelFolder
from refusal_steering.errors import SteeringError
from refusal_steering.pipeline import build as building
from refusal_steering.pipeline import requests
from refusal_steering.pipeline.parts import LeftOut
from refusal_steering.pipeline.plan import BuildPlan
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
    ended = command("build", "--model", model, "-o", out, *files, "--layers", "1,2", "--no-report")
    assert ended.status == 1
    left_out = [line.split(" ", 1)[0] for line in ended.err if "is left out: the model ref" in line]
    assert {"ras", "cascade"} <= set(left_out)
    saved = {path.name for path in out.iterdir()}
    assert saved and saved.isdisjoint(left_out)
    for name in saved:
        assert load_bundle(out / name).manifest.canary is not None


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
