"""Families that take text alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.families.family import SLIDING, TinyFamily, known, text_settings
from tests.models.tiny_tokenizer import Vocabulary


def _settings(architecture: str, **more: Any) -> Callable[[Vocabulary], dict[str, Any]]:
    def made(vocabulary: Vocabulary) -> dict[str, Any]:
        return {**known(architecture), **text_settings(vocabulary, **more)}

    return made


def _family(name: str, architecture: str, config: str, **more: Any) -> TinyFamily:
    return TinyFamily(name, architecture, config, architecture, _settings(architecture, **more))


TEXT_MODELS = (
    _family("Llama", "LlamaForCausalLM", "LlamaConfig"),
    _family("Qwen3", "Qwen3ForCausalLM", "Qwen3Config"),
    _family("Qwen3 MoE", "Qwen3MoeForCausalLM", "Qwen3MoeConfig"),
    _family("Gemma 3 (text)", "Gemma3ForCausalLM", "Gemma3TextConfig", layer_types=SLIDING),
    replace(
        _family("gpt-oss", "GptOssForCausalLM", "GptOssConfig"),
        note="built, not served: vLLM writes its chats with the published vocabulary (Harmony)",
    ),
)
