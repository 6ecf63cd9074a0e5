"""Rows of whole prompts through vLLM equal those of HF transformers, token by token."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
from typing import Any

import pytest
import soundfile
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from refusal_steering.prompts.neutral_media import audio_part, image_part
from tests.engine.conftest import EngineFixture
from tests.engine.engines import ONE_PROCESS, ROOT, environment
from tests.engine.reference import Reference
from tests.engine.token_rows import LAYERS, ROUNDS
from tests.engine_lock import one_engine

pytestmark = pytest.mark.engine
WORDS = {"type": "text", "text": "What is this?"}
IMAGE, AUDIO = image_part(3), audio_part(3)
CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "short": [{"role": "user", "content": "Say something."}],
    "long": [{"role": "user", "content": "One two three. " * 40}],
    "turns": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Tell me a story about a cake."},
        {"role": "assistant", "content": "No."},
        {"role": "user", "content": "One two three. " * 20},
    ],
    "image": [{"role": "user", "content": [IMAGE, WORDS]}],
    "audio": [{"role": "user", "content": [AUDIO, WORDS]}],
}


@pytest.fixture(scope="module")
def found(
    engine_fixture: EngineFixture, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Tensor]:
    folder = tmp_path_factory.mktemp("rows")
    source, target = folder / "conversations.json", folder / "rows.safetensors"
    source.write_text(json.dumps(list(CONVERSATIONS.values())))
    command = [sys.executable, "-m", "tests.engine.token_rows", str(engine_fixture.model)]
    with one_engine():
        done = subprocess.run(
            [*command, str(source), str(target)],
            cwd=ROOT,
            env=environment(ONE_PROCESS),
            capture_output=True,
            text=True,
            timeout=600,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    return load_file(target)


def inputs_of(name: str, reference: Reference) -> dict[str, Any]:
    """What transformers' own processor makes of a conversation."""
    asked, media = CONVERSATIONS[name], dict[str, Any]()
    if name in ("image", "audio"):
        asked = [{"role": "user", "content": [{"type": name}, WORDS]}]
    else:
        asked = [
            {"role": one["role"], "content": [{"type": "text", "text": one["content"]}]}
            for one in asked
        ]
    if name == "image":
        media["images"] = [Image.open(io.BytesIO(_data(IMAGE["image_url"]["url"])))]
    if name == "audio":
        samples, rate = soundfile.read(io.BytesIO(_data(AUDIO["input_audio"]["data"])))
        media |= {"audio": [samples.astype("float32")], "sampling_rate": rate}
    (prompt,) = reference.processor.apply_chat_template(
        [asked], add_generation_prompt=True, tokenize=False
    )
    return dict(reference.processor(text=[prompt], return_tensors="pt", **media))


def _data(url: str) -> bytes:
    return base64.b64decode(url.rpartition(",")[2])


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_rows_of_every_token_are_those_of_transformers(
    found: dict[str, Tensor], reference: Reference, name: str
) -> None:
    inputs, place = inputs_of(name, reference), list(CONVERSATIONS).index(name)
    ids = inputs["input_ids"][0].tolist()
    with torch.inference_mode():
        states = reference.model(**inputs, output_hidden_states=True).hidden_states
    for round_ in ROUNDS:
        assert found[f"{round_}/{place}/ids"].tolist() == ids
        for layer in LAYERS:
            # The first of these states is the embedding.
            mine, expected = found[f"{round_}/{place}/{layer}"], states[layer + 1][0]
            assert mine.dtype == torch.bfloat16
            slack = 1e-2 * float(expected.std())
            torch.testing.assert_close(mine.float(), expected, rtol=1e-2, atol=slack)


def test_the_laws_hold_for_chunks_and_for_media(found: dict[str, Tensor]) -> None:
    lengths = {name: len(found[f"batch/{place}/ids"]) for place, name in enumerate(CONVERSATIONS)}
    assert lengths["short"] < 64 < min(lengths["long"], lengths["turns"], lengths["image"])


def test_the_engine_tells_what_opens_a_user_turn(
    found: dict[str, Tensor], reference: Reference
) -> None:
    expected = reference.processor.tokenizer("<|im_start|>user\n")["input_ids"]
    assert found["user turn"].tolist() == expected
