"""Rows of a family's requests in transformers: what the engine's rows are held against."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import soundfile
import torch
import transformers
from PIL import Image
from torch import Tensor

from refusal_steering.pipeline.media.collecting import StoredRows
from refusal_steering.pipeline.media.requests import MediaRequest, Requests, read_requests
from tests.families.family import TinyFamily


def worst_row(family: TinyFamily, model: Path, work: Path, data: Path) -> float:
    """The largest difference of one request of each group, in standard deviations of its row.

    The last layer is left out: transformers hands out its stream behind the last norm.
    """
    requests = read_requests(data).part("train", "tune")
    (folder,) = work.glob("rows-*")
    stored = StoredRows(folder, tuple(sorted(folder.glob("*.safetensors"))), requests, "")
    worst = [
        difference
        for group in requests.groups
        for difference in _differences(family, model, stored, requests, group)
    ]
    gc.collect()
    return max(worst)


def _differences(
    family: TinyFamily, model: Path, stored: StoredRows, requests: Requests, group: str
) -> list[float]:
    place = requests.chosen("train", group)[0]
    expected = _streams(family, model, requests.all[place])
    return [
        float((stored.layer(at)[place] - stream).abs().max() / stream.std())
        for at, stream in enumerate(expected)
    ]


@torch.inference_mode()
def _streams(family: TinyFamily, folder: Path, one: MediaRequest) -> list[Tensor]:
    """The stream [H] behind every layer but the last, at the last prompt token."""
    model = getattr(transformers, family.model).from_pretrained(folder, dtype=torch.float32)
    states = model.eval()(**_inputs(family, folder, one), output_hidden_states=True).hidden_states
    return [state[0, -1] for state in states[1:-1]]


def _inputs(family: TinyFamily, folder: Path, one: MediaRequest) -> dict[str, Any]:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    parts = [{"type": kind, "text": value} for kind, value in one.parts]
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": parts}], add_generation_prompt=True, tokenize=False
    )
    if family.processor is None:
        return dict(tokenizer(prompt, return_tensors="pt"))
    media: dict[str, Any] = {}
    for kind, name in one.parts:
        if kind == "image":
            media["images"] = [Image.open(one.root / name)]
        if kind == "audio":
            samples, rate = soundfile.read(one.root / name, dtype="float32")
            media |= {"audio": [samples], "sampling_rate": rate}
    processor = transformers.AutoProcessor.from_pretrained(folder)
    found = processor(text=[prompt], return_tensors="pt", **media)
    # Some processors give bfloat16, whatever the model is computed in.
    return {name: one.float() if one.is_floating_point() else one for name, one in found.items()}
