"""The tiny model in HF transformers: what the engine's laws are held against."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from transformers import AutoProcessor, Qwen2_5OmniThinkerForConditionalGeneration

from refusal_steering.bundle import load_bundle
from refusal_steering.reference import Generated, greedy
from tests.engine.conftest import EngineFixture
from tests.engine.media import build
from tests.engine.spec import Call


class Reference:
    """The tiny model in HF transformers, by default in float32, one request at a time."""

    def __init__(self, engine_fixture: EngineFixture, dtype: torch.dtype = torch.float32):
        self.model = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(
            engine_fixture.model, dtype=dtype
        ).eval()
        self.processor = AutoProcessor.from_pretrained(engine_fixture.model)
        self.bundles = {name: load_bundle(path) for name, path in engine_fixture.bundles.items()}

    def inputs(self, call: Call) -> dict[str, Any]:
        data, media = build(call.media), {}
        if "image" in data:
            given = data["image"]
            media["images"] = given if isinstance(given, list) else [given]
        if "audio" in data:
            samples, rate = data["audio"]
            media |= {"audio": [samples], "sampling_rate": rate}
        if "video" in data:
            media["videos"] = [data["video"]]
        if not isinstance(call.prompt, str):
            return {"input_ids": torch.tensor([call.prompt])}
        return dict(self.processor(text=[call.prompt], return_tensors="pt", **media))

    def play(self, call: Call) -> Generated:
        if call.left:
            call = replace(call, blend=0.0)
        spec = call.steering(self.bundles[call.bundle]) if call.bundle else None
        return greedy(self.model, self.inputs(call), call.tokens, spec)
