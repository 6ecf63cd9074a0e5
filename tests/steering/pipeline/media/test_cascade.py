"""A cascade through a served model: its zone, what it asks, and when there is none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from refusal_steering.bundle import load_bundle
from refusal_steering.engine import Messages, Steered
from refusal_steering.pipeline.media.blending.cascade import forward_risks
from refusal_steering.pipeline.media.build import REPORT_FILE, build_media
from refusal_steering.pipeline.media.collecting import collected
from refusal_steering.pipeline.media.plan import MediaPlan
from refusal_steering.pipeline.media.requests import Requests
from refusal_steering.pipeline.media.trial import tried
from refusal_steering.pipeline.media.work import Work
from tests.steering.pipeline.media.fake_model import HIDDEN, LAYERS, FakeModel, content, drawn

SHARES = (0.2, 0.8)


class Doubtful(FakeModel):
    """A model half of whose requests lie between harm and no harm, and pictures move all."""

    def _rows(self, messages: Messages, steered: Steered | None) -> Tensor:
        rows = super()._rows(messages, steered)
        words = content(messages)
        if sum(words.encode()) % 2 == 0:
            towards = -1.0 if self._harm(words) else 1.0
            depths = (2.0 + torch.arange(LAYERS))[:, None] * 0.2
            rows = rows + towards * depths * drawn("harm", HIDDEN) / HIDDEN**0.5
        return rows + 2.0 * ("<image>" in words) * drawn("image", HIDDEN)


@pytest.fixture
def wanted(plan: MediaPlan) -> MediaPlan:
    return replace(plan, strategies=("cascade",), grey_zone=SHARES)


def test_a_cascade_is_made_and_tried_where_it_is_asked_for(
    requests: Requests, wanted: MediaPlan, tmp_path: Path
) -> None:
    model = Doubtful()
    built = build_media(model, requests, wanted, tmp_path)
    assert built.left_out.reasons == {}
    bundle = load_bundle(tmp_path / "cascade")
    bundle.check_model(HIDDEN, LAYERS)
    assert bundle.require_canary().shift and bundle.prototypes is not None
    zone, ((at, layer),) = bundle.manifest.grey_zone, bundle.layers.items()
    assert zone is not None and bundle.manifest.risk_pass is not None
    # It adds nothing, and reads its risk where pictures are taken off.
    assert float(layer.coefficient(drawn("some", 4, HIDDEN)).abs().max()) == 0.0
    assert set(layer.offsets) == {"image", "audio"}
    found = bundle.manifest.calibration["grey_zone"]
    assert set(found["low"]) == set(requests.groups)
    for group in requests.groups:
        below = above = 0.0
        for harmful in (True, False):
            places = requests.chosen("tune", group, harmful)
            rows = model.rows([requests.all[place].messages() for place in places])[:, at]
            media = requests.all[places[0]].media
            risk = torch.sigmoid(layer.risk_logit(rows.bfloat16().float(), media))
            below += float((risk < zone.low).float().mean()) * harmful
            above += float((risk > zone.high).float().mean()) * (not harmful)
        assert below <= SHARES[0] + 1e-6
        assert above <= 1.0 - SHARES[1] + 1e-6
    cells = json.loads((tmp_path / REPORT_FILE).read_text())["trial"]
    assert {one["strategy"] for one in cells} == {"off", "cascade"}


def test_the_trial_asks_the_model_about_doubtful_requests_only(
    requests: Requests, wanted: MediaPlan, tmp_path: Path
) -> None:
    built = build_media(Doubtful(), requests.part("train", "tune"), wanted, tmp_path)
    bundle = built.bundles["cascade"]
    zone, ((at, layer),) = bundle.manifest.grey_zone, bundle.layers.items()
    assert zone is not None
    model, held, work = Doubtful(), requests.part("held"), Work(tmp_path / "trial")
    apart = collected(model, held, work)
    risks = forward_risks(layer, apart.layer(at), held)
    inside = (risks >= zone.low) & (risks <= zone.high)
    assert 0 < int(inside.sum()) < len(held.all)
    cells = tried(model, requests, built.bundles, work, apart)
    # Of pictures the model is asked twice, with a sentence about them and without.
    assert int(inside.sum()) <= model.asked["questions"] <= 2 * int(inside.sum())
    refused = sum(one.refused.hits for one in cells if one.strategy == "cascade")
    assert refused >= int((risks > zone.high).sum())


def test_where_the_risk_leaves_no_doubt_there_is_no_cascade(
    requests: Requests, wanted: MediaPlan, tmp_path: Path
) -> None:
    built = build_media(FakeModel(), requests, wanted, tmp_path)
    assert not built.bundles
    assert "use mars instead of cascade" in built.left_out.reasons["cascade"]
