"""Requests in text and fake media, whose files hold words."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from refusal_steering.methods.omnisteer_presets import CENTRED
from refusal_steering.methods.omnisteer_training import Training
from refusal_steering.methods.prompt_gate.training import GateRecipe
from refusal_steering.pipeline.media.plan import MediaPlan
from refusal_steering.pipeline.media.requests import Requests, read_requests
from refusal_steering.pipeline.plan import GatePlan

COUNT = 110
USUAL = GateRecipe()
RECIPE = replace(
    USUAL,
    maximum=replace(USUAL.maximum, steps=80, learning_rate=0.03),
    attention=replace(USUAL.attention, steps=80, learning_rate=0.03),
)
GATE = GatePlan(budget=0.1, recipe=RECIPE)
PLAN = MediaPlan(
    budget=0.1,
    training=Training(preset=CENTRED, width=32, epochs=2),
    gate=GATE,
    texts=0.03,
)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file in the papers' schema: text, images, and text beside images."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "media").mkdir()
    rows = []
    for number in range(COUNT):
        for label, word in (("harmful", "steal"), ("safe", "paint")):
            text, image = f"How do I {word} number {number}?", f"media/{label}-{number}.png"
            (folder / image).write_text(f"<image> {word} {number}")
            row = {"id": number, "type": label}
            rows.append({**row, "modality": "text", "text": text})
            rows.append({**row, "modality": "image", "text": "", "image": image, "audio": None})
            rows.append({**row, "modality": "image_text", "text": "Do it.", "image": image})
    path = folder / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.fixture(scope="session")
def requests(data: Path) -> Requests:
    return read_requests(data, held=5).usable(("image",))


@pytest.fixture
def plan() -> MediaPlan:
    return PLAN
