"""Measures the streams of :mod:`tests.engine.stub_models`, in a process for each rank.

python -m tests.engine.stream_probe RENDEZVOUS FINDINGS.json RANK RANKS MODEL...
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.distributed import ensure_model_parallel_initialized, init_distributed_environment

from refusal_steering.errors import SteeringError
from refusal_steering.vllm_plugin.stream_guard import measured_layers
from tests.engine import stub_models
from tests.engine.stub_models import DEPTH, DTYPE, SIZE

MODELS: dict[str, Callable[[], nn.Module]] = {
    "HYV4": stub_models.hy_v4,
    "Glm5Next": lambda: stub_models.glm5_next(streams=False),
    "Glm5Next with several streams": lambda: stub_models.glm5_next(streams=True),
    "Kimi": stub_models.kimi,
    "MiniMaxM3": stub_models.minimax_m3,
    **{
        name: lambda name=name: stub_models.refused_by_class(name)  # type: ignore[misc]
        for name in ("DeepseekV4DecoderLayer", "Qwen4ExpDecoderLayer", "RenamedDecoderLayer")
    },
}


class Runner:
    """A model runner, as far as the measurement of streams goes."""

    def __init__(self, model: nn.Module):
        self.model = model

    def get_model(self) -> nn.Module:
        return self.model

    @torch.inference_mode()
    def _dummy_run(self, rows: int, is_profile: bool) -> Any:
        rows_in = torch.zeros(rows, SIZE, dtype=DTYPE)
        return self.model(None, torch.arange(rows), None, inputs_embeds=rows_in)


def main(rendezvous: Path, rank: int, ranks: int, names: list[str]) -> dict[str, Any]:
    config = VllmConfig()
    config.parallel_config.tensor_parallel_size = ranks
    with set_current_vllm_config(config):
        init_distributed_environment(ranks, rank, f"file://{rendezvous}", rank, "gloo")
        ensure_model_parallel_initialized(ranks, 1)
        return {name: finding(MODELS[name]().to(DTYPE), config) for name in names}


def finding(model: nn.Module, config: VllmConfig) -> dict[str, Any]:
    text = SimpleNamespace(hidden_size=SIZE, num_hidden_layers=DEPTH)
    config.model_config = SimpleNamespace(hf_text_config=text)
    try:
        layers = measured_layers(Runner(model), config)  # type: ignore[arg-type]
    except SteeringError as error:
        return {"refusal": type(error).__name__, "words": str(error)}
    except AttributeError as error:
        # A kernel that this build of vLLM has not; anything else is an error.
        if "_OpNamespace" not in str(error):
            raise
        return {"missing": str(error)}
    return {"residuals": [layer.residual for layer in layers]}


if __name__ == "__main__":
    place, target, number, count, *asked = sys.argv[1:]
    found = main(Path(place), int(number), int(count), asked)
    Path(target).write_text(json.dumps(found))
