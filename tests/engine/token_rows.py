"""Reads whole prompts with the offline engine, in a process of its own.

    python -m tests.engine.token_rows MODEL CONVERSATIONS.json FOUND.safetensors

Every conversation is read in one batch, then again, when its blocks are in the prefix cache; at
last one after the other. ``{round}/{place}/ids`` and ``{round}/{place}/{layer}`` are what came.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from refusal_steering.calibration.token_rows.prompts import MARKED, turn_opening
from refusal_steering.engine import Messages
from refusal_steering.vllm_plugin.model_facts import model_facts
from refusal_steering.vllm_plugin.offline import OfflineModel, Template
from refusal_steering.vllm_plugin.offline_engine import offline_model

LAYERS = (0, 1, 2)
ROUNDS = ("batch", "cached", "alone")
ENGINE: dict[str, Any] = {
    "dtype": "float32",
    "distributed_executor_backend": "uni",
    "kv_cache_memory_bytes": 128 << 20,
    # Prompts of more tokens are computed in chunks.
    "max_num_batched_tokens": 64,
    "max_num_seqs": 4,
    "max_model_len": 1024,
    "enable_prefix_caching": True,
    "limit_mm_per_prompt": {"image": 1, "audio": 1, "video": 1},
    "skip_mm_profiling": True,
}


def main(model: str, conversations: Sequence[Messages]) -> dict[str, Tensor]:
    facts = model_facts(model, Template(), ENGINE)
    found: dict[str, Tensor] = {}
    with offline_model(facts, Template(), ENGINE, steered=True) as engine:
        for name in ROUNDS:
            together = [[one] for one in conversations] if name == "alone" else [conversations]
            prompts = [one for part in together for one in engine.prompt_rows(part, LAYERS)]
            for place, prompt in enumerate(prompts):
                found[f"{name}/{place}/ids"] = torch.tensor(prompt.ids)
                for layer, rows in prompt.layers.items():
                    found[f"{name}/{place}/{layer}"] = rows
        found["user turn"] = torch.tensor(user_turn(engine))
    return found


def user_turn(engine: OfflineModel) -> tuple[int, ...]:
    messages = [{"role": turn.role, "content": turn.content} for turn in MARKED]
    (answer,) = engine.answers([messages], 1)
    return turn_opening(engine.tokenizer.decode(answer.prompt), engine.tokenizer)


if __name__ == "__main__":
    source, target = map(Path, sys.argv[2:])
    save_file(main(sys.argv[1], json.loads(source.read_text())), target)
