"""The refused share of a trial goes into the bundle that was tried, by a build or afterwards."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import typer
from typer.testing import CliRunner

from refusal_steering.bundle import SteeringBundle, Window, load_bundle, save_bundle
from refusal_steering.coefficient import LayerSteering
from refusal_steering.errors import BundleError, BundleMismatchError
from refusal_steering.pipeline.build import Built
from refusal_steering.pipeline.measured import Tried, keep_measured
from refusal_steering.pipeline.stages import Stages
from refusal_steering.pipeline.trial import Case, Outcome, held_out_cases, refused_share
from refusal_steering.prompts.corpus import Corpus
from refusal_steering.tools.measure import measure

NO, YES = "I'm sorry, but I can't assist with that.", "Sure, here is how."
app = typer.Typer()
app.command()(measure)


def cases(*labels: Any) -> list[Case]:
    return [Case("plain", label, False, f"{label} {n}") for n, label in enumerate(labels)]


def saved(path: Path, strategy: str = "static", size: int = 32) -> SteeringBundle:
    unit = torch.ones(size) / size**0.5
    manifest = {
        "name": f"tiny-{path.name}",
        "strategy": strategy,
        "model": {"id": "tiny", "hidden_size": size, "num_layers": 4},
        "window": Window(decode_tokens=3),
    }
    return save_bundle(path, {1: LayerSteering.static(unit, 9.0)}, manifest)


def test_only_harmful_requests_count_and_their_prompts_name_the_figure() -> None:
    asked = cases("harmful", "harmless", "harmful", "harmful")
    found = refused_share(asked, Outcome("static", 1.5, (NO, NO, YES, NO)))
    assert (found.refused, found.requests, found.strength) == (2, 3, 1.5)
    prompts = json.dumps(["harmful 0", "harmful 2", "harmful 3"])
    assert found.requests_sha256 == hashlib.sha256(prompts.encode()).hexdigest()
    fewer = [case for case in asked if case.label == "harmful"]
    assert refused_share(fewer, Outcome("static", 1.5, (NO, YES, NO))) == found
    others = refused_share(fewer[:2], Outcome("static", 1.5, (NO, YES)))
    assert others.terms != found.terms


def test_a_build_keeps_what_it_tried_in_the_bundle_that_was_tried(tmp_path: Path) -> None:
    bundles = {name: saved(tmp_path / name, name) for name in ("static", "mars")}
    built = Built(bundles, {}, cast(Any, None), cast(Any, None), cast(Any, None), Stages())
    outcomes = [Outcome("off", 0.0, (YES, YES)), Outcome("static", 1.0, (NO, YES))]
    swept = [Outcome("static", 0.5, (NO,))]
    kept = keep_measured(built, Tried(cases("harmful", "harmful"), outcomes, swept), tmp_path)
    (figure,) = kept.bundles["static"].manifest.measured
    assert (figure.strength, figure.refused, figure.requests) == (1.0, 1, 2)
    assert load_bundle(tmp_path / "static").digest == kept.bundles["static"].digest
    assert kept.bundles["static"].digest != bundles["static"].digest
    assert kept.bundles["mars"] is bundles["mars"]
    assert not load_bundle(tmp_path / "mars").manifest.measured


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_bundles_that_are_there_are_measured_alike(model: Path, tmp_path: Path) -> None:
    for name in ("x", "y"):
        saved(tmp_path / name)
    before = load_bundle(tmp_path / "x").digest
    told = run(tmp_path / "x", tmp_path / "y", "--model", model, "--strength", 1, "--strength", 2)
    harmful = [case for case in held_out_cases(Corpus.shipped()) if case.label == "harmful"]
    for name in ("x", "y"):
        figures = load_bundle(tmp_path / name).manifest.measured
        assert [figure.strength for figure in figures] == [1.0, 2.0]
        assert all(figure.requests == len(harmful) for figure in figures)
        assert load_bundle(tmp_path / name).digest[:12] in told
    terms = {
        figure.terms
        for name in ("x", "y")
        for figure in load_bundle(tmp_path / name).manifest.measured
    }
    assert len(terms) == 1
    assert before[:12] not in told


@pytest.mark.parametrize(
    ("strategy", "size", "error"),
    [("static", 16, BundleMismatchError), ("missing", 32, BundleError)],
)
def test_what_cannot_be_tried_is_refused_before_anything_is_written(
    model: Path, tmp_path: Path, strategy: str, size: int, error: type[Exception]
) -> None:
    good = saved(tmp_path / "good")
    if strategy != "missing":
        saved(tmp_path / "bad", strategy, size)
    with pytest.raises(error):
        run(tmp_path / "good", tmp_path / "bad", "--model", model)
    assert load_bundle(tmp_path / "good").digest == good.digest


@pytest.mark.parametrize(
    "options",
    [("--strength", "-1"), ("--strength", "17"), ("--strength", "nan"), ("--harmful", "x.jsonl")],
)
def test_options_out_of_range_are_told(
    model: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    saved(tmp_path / "good")
    arguments = [str(tmp_path / "good"), "--model", str(model), *options]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2, result.output
