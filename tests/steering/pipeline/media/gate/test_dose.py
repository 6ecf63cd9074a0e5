"""The dose of an open gate is the smallest of those that refuse most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from refusal_steering.bundle import Window
from refusal_steering.coefficient import LayerSteering
from refusal_steering.engine import EngineAnswer, Messages, Steered
from refusal_steering.pipeline.media.build import build_media
from refusal_steering.pipeline.media.gate.dose import best_dose, places_for_dose
from refusal_steering.pipeline.media.gate.teaching import Push
from refusal_steering.pipeline.media.requests import Requests
from refusal_steering.pipeline.media.work import Work
from tests.steering.pipeline.media import fake_model
from tests.steering.pipeline.media.conftest import PLAN
from tests.steering.pipeline.media.fake_model import HIDDEN, REFUSAL, FakeModel

DOSES = (0.4, 0.1, 0.3, 0.2)
LOST = "I'm not responsible for it."


@dataclass
class Touchy(FakeModel):
    """Refuses where it is pushed between ``least`` and ``most``, and raves where further."""

    least: float = 0.0
    most: float = 1.0

    def answers(
        self,
        conversations: Sequence[Messages],
        tokens: int,
        steered: Steered | None = None,
        *,
        logprobs: bool = False,
    ) -> list[EngineAnswer]:
        self._note("answers")
        assert steered is not None and steered.bundle is not None
        (layer,) = steered.bundle.layers.values()
        pushed = float(layer.coefficient(torch.zeros(1, HIDDEN)))
        refuses = self.least - 1e-6 <= pushed <= self.most + 1e-6
        said = REFUSAL if refuses else LOST if pushed > self.most else "Sure."
        return [EngineAnswer((), said) for _ in conversations]


def push(dose: float) -> Push:
    layer = LayerSteering.static(torch.eye(HIDDEN)[0], dose)
    return Push({2: layer}, Window(decode_tokens=3, hold=True), 0.5)


@pytest.mark.parametrize(
    ("least", "most", "best"),
    [(0.0, 1.0, 0.1), (0.15, 0.3, 0.2), (0.3, 0.3, 0.3), (2.0, 3.0, 0.25)],
)
def test_the_smallest_dose_that_refuses_most_is_taken(
    least: float, most: float, best: float, requests: Requests, tmp_path: Path
) -> None:
    model, work = Touchy(least=least, most=most), Work(tmp_path)
    places = places_for_dose(requests, requests.groups)
    assert all(requests.all[place].harmful for place in places)
    found = best_dose(model, requests, places, DOSES, push, work, 0.25)
    assert found.value == best and found.asked == len(places)
    assert found.refuses == (best != 0.25)
    assert found.refused == {str(dose): len(places) * (least <= dose <= most) for dose in DOSES}


def test_a_sweep_is_not_repeated_unless_something_of_it_is_another(
    requests: Requests, tmp_path: Path
) -> None:
    model, work = Touchy(), Work(tmp_path)
    places = places_for_dose(requests, ("text",))
    once = best_dose(model, requests, places, DOSES, push, work, 0.25)
    asked = dict(model.asked)
    assert best_dose(model, requests, places, DOSES, push, work, 0.25) == once
    assert model.asked == asked
    best_dose(model, requests, places, DOSES[:2], push, work, 0.25)
    assert model.asked["answers"] > asked["answers"]


def test_a_model_whose_refusals_nobody_knows_is_a_note(
    requests: Requests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake_model, "REFUSAL", "Das mache ich nicht.")
    plan = replace(PLAN, strategies=("promptgate",))
    built = build_media(FakeModel(), requests, plan, tmp_path)
    (note,) = (one for one in built.notes if "at a dose" in one)
    assert str(plan.gate.dose) in note and "English" in note


def test_a_plan_without_doses_takes_the_gates_own(requests: Requests, tmp_path: Path) -> None:
    plan = replace(PLAN, strategies=("promptgate",), doses=())
    (bundle,) = build_media(FakeModel(), requests, plan, tmp_path).bundles.values()
    assert bundle.manifest.calibration["doses"] is None
    rows = FakeModel().rows([[{"role": "user", "content": "How do I paint number 1?"}]])[0]
    for at, layer in bundle.layers.items():
        pushed = float(layer.coefficient(torch.zeros(1, HIDDEN)) / rows[at].norm())
        assert pushed == pytest.approx(plan.gate.dose, rel=0.3)
