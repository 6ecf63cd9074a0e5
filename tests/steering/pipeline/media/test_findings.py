"""The report of a build through the engine says what the build has found, by group."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from refusal_steering.bundle import load_bundle
from refusal_steering.pipeline.media.build import MediaBuilt, build_media
from refusal_steering.pipeline.media.plan import MADE, MediaPlan
from refusal_steering.pipeline.media.requests import Requests
from refusal_steering.report import Measurements, load_measurements, render
from refusal_steering.report.outcomes import Evaluation, Refused
from tests.steering.pipeline.media.conftest import PLAN
from tests.steering.pipeline.media.fake_model import LAYERS, FakeModel

GROUPS = {"text", "image", "text+image"}


@pytest.fixture(scope="module")
def built(requests: Requests, tmp_path_factory: pytest.TempPathFactory) -> tuple[MediaBuilt, Path]:
    """A build of everything, and its folder."""
    out = tmp_path_factory.mktemp("built")
    return build_media(FakeModel(), requests, PLAN, out), out


def measured(built: MediaBuilt) -> Measurements:
    assert built.measured is not None
    return built.measured


def cells(found: Measurements, outcome: str, policy: str, label: str) -> dict[str, Refused]:
    rows: list[Evaluation] = [
        one
        for one in found.evaluation
        if (one.outcome, one.policy, one.label) == (outcome, policy, label)
    ]
    return {cell.form: cell for row in rows for cell in row.forms}


def test_what_is_saved_is_what_was_measured(built: tuple[MediaBuilt, Path]) -> None:
    assert load_measurements(built[1]) == measured(built[0])


def test_every_group_has_every_figure(built: tuple[MediaBuilt, Path]) -> None:
    found = measured(built[0])
    assert {bundle.strategy for bundle in found.bundles} == set(MADE)
    assert {one.form for one in found.heard} == GROUPS
    assert {(one.form, one.along) for one in found.separability} == {
        (group, along) for group in GROUPS for along in ("own", "plain text")
    }
    for one in found.separability:
        assert (one.harmful, one.harmless, one.layers) == (5, 5, tuple(range(LAYERS)))
    for figures in (found.dissolution, found.projections, found.coefficients):
        assert {(one.form, one.label) for one in figures} == {
            (group, label) for group in GROUPS for label in ("harmful", "harmless")
        }
    assert {one.items for one in found.projections} == {5}
    assert {row.form for row in found.shrinkage} == GROUPS
    assert {frozenset(matrix.forms) for matrix in found.cosines} == {frozenset(GROUPS)}
    assert {one.form for one in found.calibration if one.policy == "omnisteer"} == GROUPS
    stages = [timing.stage for timing in found.timings]
    assert stages == ["rows", "vectors", *MADE, "held-out rows", "trial"]
    assert all(timing.peak_mb is not None and timing.peak_mb > 0 for timing in found.timings)


def test_the_trial_is_told_by_outcome_with_its_counts(built: tuple[MediaBuilt, Path]) -> None:
    found = measured(built[0])
    for cell in built[0].cells:
        label = "harmful" if cell.harmful else "harmless"
        for outcome, rate in cell.rates.items():
            if (outcome, cell.strategy) == ("changed", "off"):
                continue
            shown = cells(found, outcome, cell.strategy, label)[cell.group]
            assert (shown.share, shown.n) == (rate.value, rate.n)
            assert (shown.low, shown.high) == rate.interval
        assert cell.refused.hits + cell.answered.hits <= cell.refused.n
    # Against itself, nothing is changed.
    assert not cells(found, "changed", "off", "harmful")


def test_constants_touch_all_and_an_untouched_request_is_not_changed(
    built: tuple[MediaBuilt, Path],
) -> None:
    found = measured(built[0])
    for label in ("harmful", "harmless"):
        assert {cell.share for cell in cells(found, "touched", "static", label).values()} == {1.0}
        moved = cells(found, "touched", "omnisteer", label)
        for group, cell in cells(found, "changed", "omnisteer", label).items():
            assert cell.share <= moved[group].share
    # A risk pass asks the model; rows do not say whom it touches.
    assert not cells(found, "touched", "ras", "harmful")


def test_thresholds_are_those_of_the_manifest(built: tuple[MediaBuilt, Path]) -> None:
    shown = measured(built[0]).calibration
    assert {one.policy for one in shown} == {"omnisteer", "promptgate"}
    for one in shown:
        kept = load_bundle(built[1] / one.policy).manifest.calibration["thresholds"]
        assert (one.threshold, one.n, one.budget) == (
            kept[one.form]["value"],
            kept[one.form]["count"],
            PLAN.budget,
        )
        assert one.form in one.guarantee


def test_a_group_that_is_noise_is_said_to_be_noise_wherever_it_stands(
    requests: Requests, plan: MediaPlan, tmp_path: Path
) -> None:
    how = replace(plan, strategies=("static", "omnisteer"))
    found = measured(build_media(FakeModel(deaf=("image",)), requests, how, tmp_path))
    heard = {one.form: one for one in found.heard}
    assert heard["text"].learnt and not heard["image"].learnt and not heard["text+image"].learnt
    for one in heard.values():
        assert one.low <= one.area <= one.high
        assert (one.low > 0.5) == one.learnt
    for matrix in found.cosines:
        halves = dict(zip(matrix.forms, matrix.halves, strict=True))
        noise = max(abs(halves[group] or 0.0) for group in ("image", "text+image"))
        assert (halves["text"] or 0.0) > 0.7 > 0.6 > noise
    own = {one.form: one for one in found.separability if one.along == "own"}
    assert min(filter(None, own["text"].areas)) > 0.9
    for group in ("image", "text+image"):
        assert any((area or 0.0) < 0.9 for area in own[group].areas)
    notes = " ".join(found.notes)
    assert "image is not told apart" in notes
    assert {one.form for one in found.projections} == GROUPS
    page = render(found)
    assert "text+image (not told apart)" in page and "text (not told apart)" not in page


def test_text_alone_has_one_group_everywhere(
    requests: Requests, plan: MediaPlan, tmp_path: Path
) -> None:
    how = replace(plan, strategies=("omnisteer",))
    found = measured(build_media(FakeModel(), requests.usable(()), how, tmp_path))
    assert [roc.name for roc in found.roc] == ["text"]
    assert [(one.form, one.along) for one in found.separability] == [("text", "own")]
    for figures in (found.projections, found.dissolution, found.coefficients, found.shrinkage):
        assert {one.form for one in figures} == {"text"}
    assert [one.form for one in found.calibration] == ["text"]
    assert "Cosines between" not in render(found)


def test_without_held_out_requests_there_is_no_report(
    requests: Requests, plan: MediaPlan, tmp_path: Path
) -> None:
    how = replace(plan, strategies=("static",))
    built = build_media(FakeModel(), requests.part("train", "tune"), how, tmp_path)
    assert built.measured is None
    assert not (tmp_path / "measurements.json").exists()


def test_a_strategy_that_is_left_out_stands_in_the_notes(
    requests: Requests, plan: MediaPlan, tmp_path: Path
) -> None:
    how = replace(plan, strategies=("static", "ras"))
    found = measured(build_media(FakeModel(refuses=False), requests, how, tmp_path))
    assert [bundle.strategy for bundle in found.bundles] == ["static"]
    assert any(note.startswith("ras is left out: ") for note in found.notes)
