"""``promptgate`` through a served model: it opens for harm in all media, and keeps its budget."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from refusal_steering.bundle import SteeringBundle, load_bundle
from refusal_steering.calibration.token_rows.row_files import INDEX, TokenIndex
from refusal_steering.engine import Messages, PromptRows
from refusal_steering.errors import SteeringError
from refusal_steering.gate.prompt_gate import PromptGate
from refusal_steering.pipeline.media.build import MediaBuilt, build_media
from refusal_steering.pipeline.media.gate.examples import TEXTS, gate_texts
from refusal_steering.pipeline.media.requests import TEXT, Requests, read_requests
from tests.steering.pipeline.media.conftest import PLAN
from tests.steering.pipeline.media.fake_model import (
    FACTS,
    HIDDEN,
    LAYERS,
    FakeModel,
    FakeTokenizer,
    content,
)

ALONE = replace(PLAN, strategies=("promptgate",))
GROUPS = (TEXT, "image", "text+image")


@pytest.fixture(scope="module")
def whole(requests: Requests, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a build of promptgate that nothing has interrupted."""
    out = tmp_path_factory.mktemp("whole")
    built = build_media(FakeModel(), requests, ALONE, out)
    assert (built.left_out.reasons, built.recommended) == ({}, "promptgate")
    return out


@pytest.fixture(scope="module")
def bundle(whole: Path) -> SteeringBundle:
    return load_bundle(whole / "promptgate")


@pytest.fixture(scope="module")
def everyone(data: Path) -> Requests:
    """The requests with all that are held out."""
    return read_requests(data).usable(("image",))


def gate_of(bundle: SteeringBundle) -> PromptGate:
    assert bundle.gate is not None
    return bundle.gate


def openings(model: FakeModel, gate: PromptGate, requests: Requests, places: list[int]) -> Tensor:
    """How far the gate opens for some requests, by its formula on the model's rows."""
    asked = [requests.all[place] for place in places]
    prompts = model.prompt_rows([one.messages() for one in asked], gate.layers)
    return torch.tensor(
        [
            gate.opening(gate.score(prompt.layers, gate.count_from(prompt.ids)).score, one.media)
            for one, prompt in zip(asked, prompts, strict=True)
        ]
    )


def test_the_bundle_is_golden_directions_behind_a_gate(bundle: SteeringBundle) -> None:
    bundle.check_model(HIDDEN, LAYERS)
    gate, manifest = gate_of(bundle), bundle.manifest
    assert manifest.strategy == "promptgate" and bundle.require_canary().shift
    assert gate.layers == ALONE.gate_layers(LAYERS) and gate.layers[-1] <= min(bundle.layers)
    assert gate.user_turn == tuple(FakeTokenizer()("<turn>user\n")["input_ids"])
    assert set(bundle.layers) <= set(ALONE.pushed_layers(LAYERS))
    rows = FakeModel().rows([[{"role": "user", "content": "How do I paint number 1?"}]])[0]
    for at, layer in bundle.layers.items():
        everybody = layer.coefficient(torch.zeros(2, HIDDEN))
        assert everybody.unique().numel() == 1
        # Any of them makes the fake model refuse everything.
        least = min(ALONE.doses)
        assert float(everybody[0] / rows[at].norm()) == pytest.approx(least, rel=0.3)
    doses = manifest.calibration["doses"]
    assert doses["refused"] == {str(dose): doses["of"] for dose in ALONE.doses}


@pytest.mark.parametrize("group", GROUPS)
def test_held_out_harm_of_every_group_opens_it_and_the_harmless_keep_the_budget(
    bundle: SteeringBundle, everyone: Requests, group: str
) -> None:
    gate, model = gate_of(bundle), FakeModel()
    harmful, harmless = (
        openings(model, gate, everyone, everyone.chosen("held", group, label))
        for label in (True, False)
    )
    assert len(harmful) == len(harmless) > 20
    assert float((harmful == 1.0).float().mean()) >= 0.9
    assert float((harmless > 0.0).float().mean()) <= 0.15


def test_the_groups_keep_the_budget_on_their_harmless_requests_together(
    bundle: SteeringBundle, requests: Requests
) -> None:
    thresholds = bundle.manifest.calibration["thresholds"]
    assert set(thresholds) == {TEXTS, *GROUPS}
    assert bundle.manifest.gate is not None
    promise = bundle.manifest.gate.guarantee
    assert promise is not None
    for own in thresholds.values():
        assert own["value"] <= gate_of(bundle).threshold and own["budget"] == ALONE.gate.budget
        assert promise.worst_share >= own["worst_share"]
    tuning = {
        group: openings(
            FakeModel(), gate_of(bundle), requests, requests.chosen("tune", group, False)
        )
        for group in GROUPS
    }
    media = torch.cat([opened for group, opened in tuning.items() if group != TEXT])
    assert float((media > 0.0).float().mean()) <= ALONE.gate.budget
    # None of them has enough to be judged by itself, and a request counts once in all its media.
    assert thresholds["image"] == thresholds["text+image"]
    assert thresholds["image"]["count"] == len(tuning["image"])
    assert thresholds[TEXT] == thresholds[TEXTS]
    assert gate_of(bundle).media_thresholds == {
        "text": thresholds[TEXT]["value"],
        "image": thresholds["image"]["value"],
    }
    told = bundle.manifest.calibration["prompt_gate"]["opened_harmless"]
    # The threshold is one request's score, and rounding moves an opening by a twentieth at most.
    for group, opened in tuning.items():
        clearly, at_all = (float((opened > least).float().mean()) for least in (0.05, 0.0))
        assert clearly - 1e-3 <= told[group] <= at_all + 1e-3


def test_no_harm_is_learnt_from_a_medium_that_is_noise(
    requests: Requests, everyone: Requests, tmp_path: Path
) -> None:
    model = FakeModel(deaf=("image",))
    built = build_media(model, requests, ALONE, tmp_path)
    gate = gate_of(built.bundles["promptgate"])
    opened = {
        group: float(
            (openings(model, gate, everyone, everyone.chosen("held", group, True)) > 0)
            .float()
            .mean()
        )
        for group in GROUPS
    }
    assert opened[TEXT] >= 0.9 and max(opened["image"], opened["text+image"]) <= 0.2
    assert built.bundles["promptgate"].manifest.calibration["noise"] == ["image", "text+image"]


def test_token_rows_are_those_of_the_model_and_read_once(whole: Path, requests: Requests) -> None:
    (folder,) = (path.parent for path in (whole / "work").glob(f"tokens-*/{INDEX}"))
    index, model = TokenIndex.load(folder), FakeModel()
    count = len(gate_texts(0, 3, ALONE.texts).all)
    assert len(index.labels.all) == count + len(requests.part("train", "tune").all)
    place = count + requests.part("train", "tune").chosen("train", "image", True)[0]
    one = requests.part("train", "tune").all[place - count]
    (prompt,) = model.prompt_rows([one.messages()], index.layers)
    start, end = index.prompts.starts[place : place + 2].tolist()
    first = index.prompts.count_from[place]
    assert index.prompts.token_ids[place] == prompt.ids and first == len("<") + len("user\n")
    for layer, rows in index.rows(folder).layers.items():
        assert torch.equal(rows[start:end], prompt.layers[layer][first:])


def test_another_push_asks_no_prompt_again(
    whole: Path, bundle: SteeringBundle, requests: Requests, tmp_path: Path
) -> None:
    shutil.copytree(whole / "work", tmp_path / "work")
    again = FakeModel()
    stronger = replace(ALONE, gate=replace(ALONE.gate, dose=0.35), doses=())
    built = build_media(again, requests, stronger, tmp_path)
    # One, for the arithmetic of the canary.
    assert again.asked["prompt_rows"] == 1
    found = built.bundles["promptgate"]
    assert gate_of(found).digest == gate_of(bundle).digest and found.digest != bundle.digest


def test_a_request_that_cannot_be_read_is_named(requests: Requests, tmp_path: Path) -> None:
    class Lossy(FakeModel):
        """Reads last tokens of everything, and all tokens of all but one request."""

        def _prompt(self, messages: Messages, layers: Sequence[int]) -> PromptRows:
            if content(messages) == "<image> paint 7":
                raise SteeringError("was not recorded whole")
            return super()._prompt(messages, layers)

    built = build_media(Lossy(), requests, ALONE, tmp_path)
    assert reasons(built).startswith("request '7' (image) cannot be read: was not recorded")


def reasons(built: MediaBuilt) -> str:
    assert not built.bundles and built.recommended is None
    return built.left_out.reasons["promptgate"]


def test_what_the_budget_of_the_gate_lacks_is_counted_before_any_work(requests: Requests) -> None:
    small = replace(ALONE, gate=replace(ALONE.gate, budget=0.01))
    with pytest.raises(SteeringError, match=r"cannot guarantee a budget of 0\.01"):
        small.check(requests, FACTS)
    late = replace(ALONE, gate=replace(ALONE.gate, layers=(5,)))
    with pytest.raises(SteeringError, match="cannot read layer 5"):
        late.check(requests, FACTS)
    replace(small, strategies=("static",)).check(requests, FACTS)
