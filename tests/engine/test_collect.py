"""Activations collected through vLLM equal those of HF transformers, layer by layer."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from transformers import AutoTokenizer, Qwen2_5OmniThinkerForConditionalGeneration

from refusal_steering.calibration.activation_file import ActivationFile
from tests.engine.conftest import EngineFixture
from tests.engine.engines import ROOT, environment, one_engine
from tests.models import tiny_omni

pytestmark = pytest.mark.engine
PROMPTS = ("Say something.", "Tell me a story about a cake.", "One two three. " * 40)
ENGINE = {
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
    rows = [
        {"label": ("harmful", "harmless")[n % 2], "prompt": prompt, "split": "tune"}
        for n, prompt in enumerate(PROMPTS)
    ]
    (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    command = [sys.executable, "-m", "refusal_steering.tools.cli", "collect"]
    command += [str(folder / "prompts.jsonl"), "--model", str(engine_fixture.model)]
    command += ["-o", str(folder / "rows.safetensors"), "--max-model-len", "1024"]
    command += ["--engine-args", json.dumps(ENGINE)]
    with one_engine():
        done = subprocess.run(
            command, cwd=ROOT, env=environment({}), capture_output=True, text=True, timeout=600
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
        # The last of HF's states is already normed; the row before it is still the stream.
        for layer in range(tiny_omni.TEXT_LAYERS - 1):
            mine = collected.layer(layer)[place]
            expected = states[layer + 1][0, -1]
            # The file keeps bfloat16.
            torch.testing.assert_close(mine, expected, rtol=1e-2, atol=1e-2 * float(expected.std()))


def test_the_file_says_what_the_rows_are(collected: ActivationFile) -> None:
    assert collected.harmful.tolist() == [True, False, True]
    assert sorted(collected.rows) == list(range(tiny_omni.TEXT_LAYERS))
    assert collected.model.hidden_size == tiny_omni.HIDDEN
