"""Activations collected through vLLM equal those of HF transformers, layer by layer."""

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
from transformers import AutoTokenizer, Qwen2_5OmniThinkerForConditionalGeneration

from refusal_steering.calibration.activation_file import ActivationFile
from refusal_steering.prompts.neutral_media import audio_part, image_part
from tests.engine.conftest import EngineFixture
from tests.engine.engines import ONE_PROCESS, ROOT, environment
from tests.engine.reference import Reference
from tests.engine_lock import one_engine
from tests.models import tiny_omni

pytestmark = pytest.mark.engine
WORDS = [{"type": "text", "text": "What is this?"}]
PROMPTS = ("Say something.", "Tell me a story about a cake.", "One two three. " * 40)
ENGINE = {
    "distributed_executor_backend": "uni",
    "dtype": "float32",
    "kv_cache_memory_bytes": 128 << 20,
    "max_num_batched_tokens": 64,
    "max_num_seqs": 4,
    "limit_mm_per_prompt": {"image": 1, "audio": 1, "video": 1},
    "skip_mm_profiling": True,
}


@pytest.fixture(scope="module")
def collected(
    engine_fixture: EngineFixture, tmp_path_factory: pytest.TempPathFactory
) -> ActivationFile:
    folder = tmp_path_factory.mktemp("collect")
    rows: list[dict[str, Any]] = [
        {"label": ("harmful", "harmless")[n % 2], "prompt": prompt, "split": "tune"}
        for n, prompt in enumerate(PROMPTS)
    ]
    rows += [
        {"label": "harmful", "messages": [{"role": "user", "content": [part, *WORDS]}]}
        for part in (image_part(3), audio_part(3))
    ]
    (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    command = [sys.executable, "-m", "refusal_steering.tools.cli", "collect"]
    command += [str(folder / "prompts.jsonl"), "--model", str(engine_fixture.model)]
    command += ["-o", str(folder / "rows.safetensors"), "--max-model-len", "1024"]
    command += ["--engine-args", json.dumps(ENGINE)]
    with one_engine():
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment(ONE_PROCESS),
            capture_output=True,
            text=True,
            timeout=600,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    return ActivationFile.load(folder / "rows.safetensors")


def test_rows_are_those_of_transformers(
    collected: ActivationFile, engine_fixture: EngineFixture
) -> None:
    model = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(
        engine_fixture.model, dtype=torch.float32
    ).eval()
    tokenizer = AutoTokenizer.from_pretrained(engine_fixture.model)
    for place, prompt in enumerate(PROMPTS):
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, return_dict=False
        )
        with torch.inference_mode():
            states = model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states
        assert_equal_rows(collected, place, states)


def assert_equal_rows(
    collected: ActivationFile, place: int, states: tuple[torch.Tensor, ...]
) -> None:
    """The last of HF's states is already normed; the row before it is still the stream."""
    for layer in range(tiny_omni.TEXT_LAYERS - 1):
        mine, expected = collected.layer(layer)[place], states[layer + 1][0, -1]
        # The file keeps bfloat16.
        torch.testing.assert_close(mine, expected, rtol=1e-2, atol=1e-2 * float(expected.std()))


@pytest.mark.parametrize("medium", ["image", "audio"])
def test_rows_of_media_are_those_of_transformers(
    collected: ActivationFile, reference: Reference, medium: str
) -> None:
    place = len(PROMPTS) + ("image", "audio").index(medium)
    (prompt,) = reference.processor.apply_chat_template(
        [[{"role": "user", "content": [{"type": medium}, *WORDS]}]],
        add_generation_prompt=True,
        tokenize=False,
    )
    media: dict[str, Any] = {}
    if medium == "image":
        media["images"] = [Image.open(io.BytesIO(base64.b64decode(_data(image_part(3)))))]
    else:
        samples, rate = soundfile.read(io.BytesIO(base64.b64decode(_data(audio_part(3)))))
        media |= {"audio": [samples.astype("float32")], "sampling_rate": rate}
    inputs = reference.processor(text=[prompt], return_tensors="pt", **media)
    with torch.inference_mode():
        states = reference.model(**inputs, output_hidden_states=True).hidden_states
    assert_equal_rows(collected, place, states)


def _data(part: dict[str, Any]) -> str:
    """The base64 of a content part."""
    found: str = part[part["type"]].get("url", "").partition(",")[2] or part["input_audio"]["data"]
    return found


def test_the_file_says_what_the_rows_are(collected: ActivationFile) -> None:
    assert collected.harmful.tolist() == [True, False, True, True, True]
    assert sorted(collected.rows) == list(range(tiny_omni.TEXT_LAYERS))
    assert collected.model.hidden_size == tiny_omni.HIDDEN
