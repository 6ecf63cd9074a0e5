"""An open gate pushes along directions that were turned on every family that it is taught."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from refusal_steering.bundle import Window
from refusal_steering.calibration.directions import Direction
from refusal_steering.calibration.model import CalibrationModel
from refusal_steering.calibration.model_folder import ModelFolder
from refusal_steering.calibration.token_rows.prompts import TokenPrompts
from refusal_steering.calibration.token_rows.row_files import TokenIndex
from refusal_steering.coefficient import LayerSteering
from refusal_steering.methods.refine import Refinement
from refusal_steering.methods.surprise import answer_ids, prime, surprise
from refusal_steering.pipeline.gate.push import harmful_of_families, push_directions
from refusal_steering.pipeline.plan import GatePlan
from refusal_steering.prompts.families.conversation import Turn
from refusal_steering.prompts.gate_labels import GateLabel, GateLabels
from refusal_steering.spec import SteeringSpec

SIZES = {"plain": 40, "list": 12, "language-xx": 3}
WINDOW = Window(decode_tokens=1)
HOW = Refinement(
    refusal="no never", dose=1.0, prompts=18, spread=(1.0, 1.0), silence=0.0, loyalty=0.0, steps=30
)


@pytest.fixture(scope="module")
def chat(model: Path) -> CalibrationModel:
    return ModelFolder.open(model).load()


@pytest.fixture(scope="module")
def index(chat: CalibrationModel) -> TokenIndex:
    """Harmful and harmless, training and tuning conversations of three families; none was read."""
    labels, conversations = [], []
    for family, size in SIZES.items():
        for number in range(4 * size):
            harmful, tuning = number % 2 == 0, number % 4 >= 2
            labels.append(GateLabel(f"{family} {number}", family, harmful, tuning, False))
            conversations.append(
                (Turn("user", f"{family} {number} {'bad' if harmful else 'fine'}"),)
            )
    return TokenIndex(
        TokenPrompts.of(chat, conversations),
        GateLabels(tuple(labels)),
        chat.identity("tiny"),
        (0,),
        torch.zeros(len(labels), dtype=torch.bool),
        "tests",
        "a" * 64,
    )


def test_every_family_gives_as_many_or_all_of_its_own(index: TokenIndex) -> None:
    known = dict(zip(index.prompts.token_ids, index.labels.all, strict=True))
    chosen = [known[ids] for ids in harmful_of_families(index, 18, 0)]
    assert all(label.harmful and not label.tuning for label in chosen)
    assert Counter(label.family for label in chosen) == {"plain": 6, "list": 6, "language-xx": 3}
    assert harmful_of_families(index, 18, 0) == harmful_of_families(index, 18, 0)
    assert harmful_of_families(index, 18, 0) != harmful_of_families(index, 18, 1)


def test_the_push_makes_the_refusal_likelier_in_every_family(
    chat: CalibrationModel, index: TokenIndex
) -> None:
    generator = torch.Generator().manual_seed(0)
    units = {at: torch.randn(32, generator=generator) for at in (1, 2)}
    start = {at: Direction(unit / unit.norm(), 4.0) for at, unit in units.items()}
    turned = push_directions(chat, index, start, WINDOW, GatePlan(push=HOW), None)
    for family in SIZES:
        prompts = [
            ids
            for ids, label in zip(index.prompts.token_ids, index.labels.all, strict=True)
            if label.family == family and label.harmful and label.tuning
        ]
        assert _nats(chat, prompts, turned) < _nats(chat, prompts, start) - 0.3, family


def _nats(
    chat: CalibrationModel, prompts: list[tuple[int, ...]], directions: dict[int, Direction]
) -> float:
    layers = {at: LayerSteering.static(d.unit, d.scale) for at, d in directions.items()}
    refusal = answer_ids(chat, HOW.refusal)
    (batch,) = chat.encoded_batches(prompts, len(prompts))
    spec = SteeringSpec.of_parts(layers, WINDOW, dose_limit=None)
    with torch.no_grad():
        return float(surprise(chat, prime(chat, batch), refusal, spec))
