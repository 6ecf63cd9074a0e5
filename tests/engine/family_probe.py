"""Builds every family with vLLM's own classes and writes what steering finds in it.

    python -m tests.engine.family_probe FOLDER FINDINGS.json

A process of its own, because it changes vLLM's registry and process groups.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
import transformers
from torch import Tensor, nn
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.distributed import ensure_model_parallel_initialized, init_distributed_environment
from vllm.engine.arg_utils import EngineArgs
from vllm.forward_context import set_forward_context
from vllm.model_executor.layers.attention import Attention
from vllm.model_executor.model_loader import get_model_loader
from vllm.model_executor.model_loader.utils import (
    initialize_model,
    process_weights_after_loading,
)
from vllm.model_executor.models.registry import ModelRegistry

from refusal_steering.errors import SteeringError
from refusal_steering.runtime.layers import decoder_layers
from refusal_steering.runtime.stream import DecoderLayer
from refusal_steering.vllm_plugin.protocols import ModelRunner
from refusal_steering.vllm_plugin.stream_guard import measured_layers
from tests.engine.families import FOUND, LAYERS, MEASURED, REFUSED, Family

TOKENS = 12
IDS = torch.arange(3, 3 + TOKENS)


class MiniCPMConfig(transformers.Qwen2Config):  # type: ignore[misc]
    """What vLLM's MiniCPM-V and MiniCPM-o read; their own class is code in the checkpoint."""

    model_type = "minicpm_stand_in"
    sub_configs: ClassVar = {
        "vision_config": transformers.SiglipVisionConfig,
        "audio_config": transformers.WhisperConfig,
    }

    def __init__(self, vision_config: Any = None, audio_config: Any = None, **settings: Any):
        super().__init__(**settings)
        self.vision_config = transformers.SiglipVisionConfig(**(vision_config or {}))
        self.audio_config = transformers.WhisperConfig(**(audio_config or {}))


def main(folder: Path) -> dict[str, Any]:
    # A configuration without a model has process groups for every kind of model.
    with set_current_vllm_config(VllmConfig()):
        init_distributed_environment(1, 0, f"file://{folder / 'rendezvous'}", 0, "gloo")
        ensure_model_parallel_initialized(1, 1)
    transformers.AutoConfig.register(MiniCPMConfig.model_type, MiniCPMConfig)
    # First, because vLLM's Transformers backend changes classes of transformers.
    truth = {family: reference_streams(family, folder) for family in MEASURED}
    return {
        "found": {family.architecture: find(family, folder) for family in (*FOUND, *REFUSED)},
        "streams": {
            family.architecture: measure(family, folder, truth[family]) for family in truth
        },
    }


def find(family: Family, folder: Path) -> dict[str, Any]:
    """Where steering would go in a model with made-up weights, and how it would read it."""
    config = engine_config(family, folder, load_format="dummy")
    model = loaded(config)
    leave_no_number(config)
    count = config.model_config.hf_text_config.num_hidden_layers
    try:
        measured = measured_layers(runner_of(model, config), config)
    except SteeringError as error:
        return {"refusal": type(error).__name__, "words": str(error)}
    layers = decoder_layers(model, count)
    return {
        "count": count,
        "path": next(name for name, module in model.named_modules() if module is layers),
        "classes": sorted({type(layer).__name__ for layer in layers}),
        "residuals": [layer.residual for layer in measured],
        "lists": [name for name, module in model.named_modules() if is_list(module, count)],
    }


def leave_no_number(config: Any) -> None:
    """Make attention without a cache hand on the worst memory that it may find."""
    for module in config.compilation_config.static_forward_context.values():
        if isinstance(module, Attention):
            module.impl.forward = no_number


def no_number(*_: Any, output: Tensor, **__: Any) -> Tensor:
    return output.fill_(torch.nan)


def loaded(config: Any) -> Any:
    """vLLM's model with its weights."""
    model = initialize_model(config)
    with set_current_vllm_config(config):
        get_model_loader(config.load_config).load_weights(model, config.model_config)
        process_weights_after_loading(model, config.model_config, torch.device("cpu"))
    return model


def runner_of(model: nn.Module, config: Any) -> ModelRunner:
    """What the measurement of streams takes for a model's runner."""
    return cast(ModelRunner, Runner(model, config))


class Runner:
    """A model runner, as far as the measurement of streams goes."""

    def __init__(self, model: nn.Module, config: Any):
        self.model, self._config = model, config

    def get_model(self) -> nn.Module:
        return self.model

    @torch.inference_mode()
    def _dummy_run(self, rows: int, is_profile: bool) -> Any:
        positions = torch.arange(rows)
        if self._config.model_config.uses_mrope:
            positions = positions.expand(3, -1)
        size = self._config.model_config.hf_text_config.hidden_size
        with set_forward_context(None, self._config):
            return self.model(None, positions, None, inputs_embeds=torch.zeros(rows, size))


def is_list(module: nn.Module, count: int) -> bool:
    return isinstance(module, nn.ModuleList) and len(module) == count


def measure(family: Family, folder: Path, truth: list[Tensor]) -> dict[str, Any]:
    """Distance of each layer's stream from that of transformers, with equal random weights.

    ``right`` is the reading that steering chooses, ``wrong`` the other one, where there is one.
    """
    measured, outputs = engine_outputs(family, folder)
    right, wrong = [], []
    for layer, (hidden, other), expected in zip(measured, outputs, truth, strict=True):
        alone = distance(hidden, expected)
        added = None if other is None else distance(hidden + other, expected)
        right.append(alone if layer.residual is None else added)
        wrong.append(added if layer.residual is None else alone)
    return {"right": right, "wrong": [value for value in wrong if value is not None]}


def distance(found: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest entry."""
    return float((found - expected).abs().max() / expected.abs().max())


@torch.inference_mode()
def reference_streams(family: Family, folder: Path) -> list[Tensor]:
    """Write random weights and return what each layer of transformers' model hands on."""
    torch.manual_seed(0)
    config = hf_config(family)
    model = getattr(transformers, family.architecture)(config).eval()
    model.save_pretrained(folder / family.architecture)
    streams: list[Tensor] = []
    layers = model.get_decoder().layers
    with taps(layers, lambda output: streams.append(copied(output)[0][0])):
        model(input_ids=IDS[None], use_cache=False)
    return streams


@torch.inference_mode()
def engine_outputs(family: Family, folder: Path) -> tuple[list[DecoderLayer], list[Any]]:
    """The measured layers of vLLM's model with those weights, and what each returns."""
    config = engine_config(family, folder, write=False)
    model = loaded(config)
    measured = measured_layers(runner_of(model, config), config)
    for module in config.compilation_config.static_forward_context.values():
        if isinstance(module, Attention):
            module.forward = plain_attention(module)
    outputs: list[Any] = []
    layers = decoder_layers(model, LAYERS)
    positions = torch.arange(TOKENS)
    if config.model_config.uses_mrope:
        positions = positions.expand(3, -1)
    with (
        taps(layers, lambda output: outputs.append(copied(output))),
        set_current_vllm_config(config),
        set_forward_context(None, config),
    ):
        model(None, positions, None, inputs_embeds=model.embed_input_ids(IDS))
    return measured, outputs


def plain_attention(layer: Any) -> Callable[..., Tensor]:
    """Causal attention over one prompt, for a model without a key-value cache."""

    def forward(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Tensor:
        query, key, value = (
            tensor.view(TOKENS, -1, layer.head_size).transpose(0, 1)[None]
            for tensor in (query, key, value)
        )
        mixed = nn.functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=layer.impl.scale, enable_gqa=True
        )
        return mixed[0].transpose(0, 1).reshape(TOKENS, -1)

    return forward


@contextmanager
def taps(layers: Any, note: Callable[[Any], None]) -> Iterator[None]:
    """Call ``note`` with what each layer returns."""
    handles = [layer.register_forward_hook(lambda _m, _a, out: note(out)) for layer in layers]
    yield
    for handle in handles:
        handle.remove()


def copied(output: Any) -> tuple[Tensor, Tensor | None]:
    """First and second output of a layer; the next one's fused norm writes into both."""
    first, second, *_ = (*output, None) if isinstance(output, tuple) else (output, None)
    return first.clone(), None if second is None else second.clone()


def engine_config(
    family: Family, folder: Path, *, write: bool = True, load_format: str = "auto"
) -> Any:
    """vLLM's configuration for the family."""
    path = folder / family.architecture
    if write:
        hf_config(family).save_pretrained(path)
    # A class that is registered itself is not inspected in a process of its own.
    found = ModelRegistry.models[family.architecture].load_model_cls()
    ModelRegistry.register_model(family.architecture, found)
    return EngineArgs(
        model=str(path),
        skip_tokenizer_init=True,
        enforce_eager=True,
        load_format=load_format,
        dtype="float32",
        max_model_len=128,
    ).create_engine_config()


def hf_config(family: Family) -> Any:
    known = {"MiniCPMConfig": MiniCPMConfig}
    kind = known.get(family.config) or getattr(transformers, family.config)
    config = kind(**family.settings)
    config.architectures = [family.architecture]
    config.dtype = "float32"
    return config


if __name__ == "__main__":
    place, target = map(Path, sys.argv[1:])
    target.write_text(json.dumps(main(place)))
