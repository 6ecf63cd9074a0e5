"""A build through a served model: what it makes, what it leaves out, what an end cannot take."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from refusal_steering.bundle import load_bundle
from refusal_steering.engine import Messages, Steered
from refusal_steering.errors import SteeringError
from refusal_steering.methods.mars import OffsetKind, TrustRegion
from refusal_steering.pipeline.media.build import REPORT_FILE, build_media
from refusal_steering.pipeline.media.plan import MADE, MediaPlan
from refusal_steering.pipeline.media.requests import TEXT, Requests
from tests.steering.pipeline.media.conftest import PLAN
from tests.steering.pipeline.media.fake_model import HIDDEN, LAYERS, FakeModel, drawn


def digests(folder: Path) -> dict[str, str]:
    return {name: load_bundle(folder / name).digest for name in MADE if (folder / name).exists()}


@pytest.fixture(scope="module")
def whole(requests: Requests, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a build that nothing has interrupted."""
    out = tmp_path_factory.mktemp("whole")
    built = build_media(FakeModel(), requests, PLAN, out)
    assert built.left_out.reasons == {}
    return out


def test_every_strategy_becomes_a_bundle_that_a_server_takes(
    whole: Path, requests: Requests
) -> None:
    for name in MADE:
        bundle = load_bundle(whole / name)
        bundle.check_model(HIDDEN, LAYERS)
        assert bundle.require_canary().shift
        assert bundle.manifest.strategy == name
        learnt = requests.part("train", "tune").sha256
        assert bundle.manifest.calibration["requests_sha256"] == learnt
    thresholds = load_bundle(whole / "omnisteer").manifest.calibration["thresholds"]
    assert set(thresholds) == set(requests.groups) == {"text", "image", "text+image"}
    assert load_bundle(whole / "mars").manifest.media == ("audio", "image")
    assert json.loads((whole / REPORT_FILE).read_text())["left_out"] == {}


def test_harmful_requests_of_every_group_are_touched_and_harmless_ones_keep_the_budget(
    whole: Path, requests: Requests
) -> None:
    layers, model = load_bundle(whole / "omnisteer").layers, FakeModel()
    for group in requests.groups:
        touched = {}
        for harmful in (True, False):
            places = requests.chosen("tune", group, harmful)
            rows = model.rows([requests.all[place].messages() for place in places])
            earned = [layer.coefficient(rows[:, at]) > 0 for at, layer in layers.items()]
            touched[harmful] = float(torch.stack(earned).any(0).float().mean())
        assert touched[True] > 0.8
        assert touched[False] <= 0.1


def test_no_adapter_earns_more_than_its_share_of_the_stream(
    whole: Path, requests: Requests, plan: MediaPlan, tmp_path: Path
) -> None:
    less = replace(plan, strategies=("omnisteer",), dose=plan.dose / 5)
    lower = build_media(FakeModel(), requests, less, tmp_path).bundles["omnisteer"].layers
    usual = load_bundle(whole / "omnisteer").layers
    assert lower.keys() == usual.keys()
    for at, layer in usual.items():
        assert lower[at].ceiling == pytest.approx(layer.ceiling / 5)
    known = replace(plan, strategies=("omnisteer",), training=replace(plan.training, k_max=1.5))
    given = build_media(FakeModel(), requests, known, tmp_path / "k").bundles["omnisteer"].layers
    assert {layer.ceiling for layer in given.values()} == {1.5}


def test_what_was_found_before_is_not_asked_again(whole: Path, requests: Requests) -> None:
    before, again = digests(whole), FakeModel()
    build_media(again, requests, PLAN, whole)
    assert digests(whole) == before
    assert again.asked == {}


def test_held_out_requests_are_answered_under_every_bundle(whole: Path, requests: Requests) -> None:
    trial = json.loads((whole / REPORT_FILE).read_text())["trial"]
    cells = {(one["strategy"], one["group"], one["label"]): one for one in trial}
    assert len(cells) == len(trial) == (1 + len(MADE)) * 3 * 2
    assert {one["refused"]["n"] for one in trial} == {5}
    assert cells["off", "text", "harmful"]["refused"]["hits"] == 5
    for group in ("image", "text+image"):
        assert cells["off", group, "harmful"]["refused"]["hits"] == 0
        assert cells["omnisteer", group, "harmful"]["refused"]["hits"] >= 4
        assert cells["omnisteer", group, "harmless"]["refused"]["hits"] <= 1
    for name in MADE:
        (measured,) = load_bundle(whole / name).manifest.measured
        hits = [cells[name, group, "harmful"]["refused"]["hits"] for group in requests.groups]
        assert (measured.refused, measured.requests) == (sum(hits), 15)


def test_a_medium_that_is_noise_is_noted_and_not_learnt_from(
    requests: Requests, plan: MediaPlan, tmp_path: Path
) -> None:
    built = build_media(FakeModel(deaf=("image",)), requests, plan, tmp_path)
    assert [note.split(" ")[0] for note in built.notes] == ["image", "text+image", "ras"]
    facts = built.bundles["omnisteer"].manifest.calibration
    assert facts["golden"]["groups"] == [TEXT]
    assert {one["method"] for one in facts["golden"]["layers"].values()} == {"text alone"}
    assert facts["touched_harmful"]["image"] <= 0.3 < facts["touched_harmful"][TEXT]


def test_one_strategy_that_cannot_be_is_a_note(
    requests: Requests, plan: MediaPlan, tmp_path: Path
) -> None:
    built = build_media(FakeModel(refuses=False), requests, plan, tmp_path)
    assert set(built.left_out.reasons) == {"ras"}
    assert "refuses 0 of" in built.left_out.reasons["ras"]
    assert set(built.bundles) == {"static", "omnisteer", "promptgate", "mars"}
    assert built.bundles["mars"].manifest.calibration["refused_only"] is False
    assert [note.split(" ")[0] for note in built.notes] == ["mars"]


@pytest.mark.parametrize("budget", [0.5, None])
def test_the_base_of_ras_is_the_published_mean_or_keeps_a_budget(
    budget: float | None, requests: Requests, plan: MediaPlan, tmp_path: Path
) -> None:
    how = replace(plan, strategies=("ras",), ras=replace(plan.ras, budget=budget))
    manifest = build_media(FakeModel(), requests, how, tmp_path).bundles["ras"].manifest
    facts, found = manifest.calibration["risk_pass"], manifest.risk_pass
    assert found is not None and facts["group"] == "text+image"
    assert (found.base == pytest.approx(facts["published_base"])) == (budget is None)
    assert facts["base"] == ("published" if budget is None else "budget 0.5")


def test_a_budget_that_too_few_requests_cannot_keep_is_a_note(
    requests: Requests, plan: MediaPlan, tmp_path: Path
) -> None:
    how = replace(plan, strategies=("ras",), ras=replace(plan.ras, budget=0.001))
    built = build_media(FakeModel(), requests, how, tmp_path)
    assert [note for note in built.notes if "needs 999 harmless" in note]
    facts = built.bundles["ras"].manifest.calibration["risk_pass"]
    assert facts["base"] == "published"


class Moved(FakeModel):
    """Every picture moves its request's rows by as much again, and sounds move them elsewhere."""

    def _rows(self, messages: Messages, steered: Steered | None) -> Tensor:
        parts = messages[-1]["content"]
        kinds = [part["type"] for part in parts if isinstance(part, dict)]
        rows = super()._rows([{"role": "user", "content": content_of(parts)}], steered)
        moved = kinds.count("image_url") * drawn("image", HIDDEN)
        return rows + moved + kinds.count("input_audio") * drawn("audio", HIDDEN)


def content_of(parts: Any) -> str:
    """The words of a conversation without its media."""
    if isinstance(parts, str):
        return parts
    return " ".join(part["text"] for part in parts if "text" in part)


def test_offsets_are_by_the_number_of_items_that_the_server_takes(
    requests: Requests, plan: MediaPlan, tmp_path: Path
) -> None:
    text = replace(requests, all=tuple(one for one in requests.all if one.group == TEXT))
    found = {}
    for kind in get_args(OffsetKind):
        how = replace(plan, strategies=("mars",), mars_offset=kind)
        built = build_media(Moved(), text, how, tmp_path / kind)
        (layer,) = built.bundles["mars"].layers.values()
        found[kind] = layer.offsets
        facts = built.bundles["mars"].manifest.calibration
        assert facts["offset"] == kind and facts["sound_in_videos"] is False
        assert {name: len(one) for name, one in facts["offset_lengths"].items()} == {
            "image": 2,
            "audio": 1,
        }
    paired = found["paired"]
    torch.testing.assert_close(paired["image"][0], drawn("image", HIDDEN), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(paired["image"][1], 2 * drawn("image", HIDDEN), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(paired["audio"][0], drawn("audio", HIDDEN), atol=1e-4, rtol=1e-4)
    # Absolute ones have another origin, which is the same for every medium.
    apart = [found["absolute"][name][0] - paired[name][0] for name in ("image", "audio")]
    torch.testing.assert_close(apart[0], apart[1], atol=1e-4, rtol=1e-4)
    assert float(apart[0].norm()) > 0.1


def test_a_ball_is_a_trust_region_that_the_engine_keeps(
    requests: Requests, plan: MediaPlan, tmp_path: Path
) -> None:
    how = replace(plan, strategies=("mars",), mars=TrustRegion(shape="ball"))
    bundle = build_media(FakeModel(), requests, how, tmp_path).bundles["mars"]
    (layer,) = load_bundle(tmp_path / "mars").layers.values()
    assert layer.ball is not None and layer.hidden_units == 1
    assert bundle.digest == load_bundle(tmp_path / "mars").digest


def test_one_strategy_is_made_alone(requests: Requests, plan: MediaPlan, tmp_path: Path) -> None:
    build_media(FakeModel(), requests, replace(plan, strategies=("mars",)), tmp_path)
    assert set(digests(tmp_path)) == {"mars"}


@pytest.mark.parametrize("wrong", [0.0, 0.5, 2.0])
def test_an_engine_that_steers_otherwise_gets_no_bundle(
    wrong: float, requests: Requests, tmp_path: Path
) -> None:
    built = build_media(FakeModel(wrong=wrong), requests, PLAN, tmp_path)
    assert not built.bundles
    assert set(built.left_out.reasons) == set(MADE)


def test_a_request_that_gets_lost_is_named(
    requests: Requests, plan: MediaPlan, tmp_path: Path
) -> None:
    with pytest.raises(SteeringError, match=r"request '7' \(image\)"):
        build_media(FakeModel(lost="<image> paint 7"), requests, plan, tmp_path)


def test_labels_without_meaning_end_the_build(
    requests: Requests, plan: MediaPlan, tmp_path: Path
) -> None:
    mixed = tuple(replace(one, harmful=int(one.id) % 2 == 0) for one in requests.all)
    with pytest.raises(SteeringError, match="not told apart"):
        build_media(FakeModel(), replace(requests, all=mixed), plan, tmp_path)
