"""The Gemma families that see."""

from __future__ import annotations

from typing import Any

import transformers

from tests.engine.families import HEAD, LAYERS
from tests.families.family import SLIDING, TinyFamily, known, text_settings
from tests.models.tiny_tokenizer import Vocabulary

_SIDE, _PATCH = 56, 14


def _gemma3(vocabulary: Vocabulary) -> dict[str, Any]:
    ids = vocabulary.special
    return {
        **known("Gemma3ForConditionalGeneration"),
        "text_config": text_settings(vocabulary, layer_types=SLIDING),
        "tie_word_embeddings": False,
        "image_token_index": ids["<image_soft_token>"],
        "boi_token_index": ids["<start_of_image>"],
        "eoi_token_index": ids["<end_of_image>"],
    }


def _gemma3_processor(tokenizer: Any, template: str) -> Any:
    return transformers.Gemma3Processor(
        transformers.Gemma3ImageProcessor(size={"height": _SIDE, "width": _SIDE}),
        tokenizer,
        chat_template=template,
        image_seq_length=4,
    )


def _gemma4(vocabulary: Vocabulary) -> dict[str, Any]:
    ids = vocabulary.special
    return {
        "text_config": text_settings(
            vocabulary,
            global_head_dim=HEAD,
            hidden_size_per_layer_input=0,
            vocab_size_per_layer_input=vocabulary.rows,
            sliding_window=64,
            layer_types=SLIDING,
        ),
        "vision_config": {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "patch_size": _PATCH,
            "pooling_kernel_size": 2,
            "position_embedding_size": 64,
            "default_output_length": 70,
        },
        "audio_config": None,
        "tie_word_embeddings": False,
        "image_token_id": ids["<|image|>"],
        "video_token_id": ids["<|video|>"],
        "audio_token_id": ids["<|audio|>"],
        "boi_token_id": ids["<|image>"],
        "eoi_token_id": ids["<image|>"],
        "boa_token_id": ids["<|audio>"],
        "eoa_token_index": ids["<audio|>"],
    }


def _gemma4_processor(tokenizer: Any, template: str) -> Any:
    sizes = {"patch_size": _PATCH, "pooling_kernel_size": 2, "max_soft_tokens": 70}
    return transformers.Gemma4Processor(
        transformers.Gemma4AudioFeatureExtractor(),
        transformers.Gemma4ImageProcessor(**sizes),
        tokenizer,
        transformers.Gemma4VideoProcessor(**sizes),
        chat_template=template,
        image_seq_length=70,
    )


GEMMA = (
    TinyFamily(
        "Gemma 3",
        "Gemma3ForConditionalGeneration",
        "Gemma3Config",
        "Gemma3ForConditionalGeneration",
        _gemma3,
        _gemma3_processor,
        placeholders={"image": "<start_of_image>"},
        special=("<start_of_image>", "<end_of_image>", "<image_soft_token>"),
        words=("\n", "\n\n", "\n\n\n", "\n\n\n\n"),
        named={
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
            "image_token": "<image_soft_token>",
        },
        published={"vision_tower.": "vision_tower.vision_model."},
    ),
    TinyFamily(
        "Gemma 4",
        "Gemma4ForConditionalGeneration",
        "Gemma4Config",
        "Gemma4ForConditionalGeneration",
        _gemma4,
        _gemma4_processor,
        placeholders={"image": "<|image|>", "video": "<|video|>"},
        special=(
            *("<|image|>", "<|image>", "<image|>", "<|video|>"),
            *("<|audio|>", "<|audio>", "<audio|>"),
        ),
        named={
            "image_token": "<|image|>",
            "boi_token": "<|image>",
            "eoi_token": "<image|>",
            "video_token": "<|video|>",
            "audio_token": "<|audio|>",
            "boa_token": "<|audio>",
            "eoa_token": "<audio|>",
        },
    ),
)
