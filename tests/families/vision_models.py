"""Families of a picture encoder with a projector before a language model."""

from __future__ import annotations

from typing import Any

import transformers

from tests.engine.families import LAYERS
from tests.families.family import CONTEXT, TinyFamily, known, text_settings
from tests.models.tiny_tokenizer import Vocabulary

_SIDE, _PATCH = 56, 14
_SQUARE = {"height": _SIDE, "width": _SIDE}


def _llava(vocabulary: Vocabulary) -> dict[str, Any]:
    return {
        **known("LlavaForConditionalGeneration"),
        "text_config": text_settings(vocabulary, model_type="llama"),
        "image_token_index": vocabulary.special["<image>"],
        "image_seq_length": (_SIDE // _PATCH) ** 2,
        "tie_word_embeddings": False,
    }


def _llava_processor(tokenizer: Any, template: str) -> Any:
    return transformers.LlavaProcessor(
        transformers.CLIPImageProcessor(size={"shortest_edge": _SIDE}, crop_size=_SQUARE),
        tokenizer,
        patch_size=_PATCH,
        vision_feature_select_strategy="default",
        chat_template=template,
        num_additional_image_tokens=1,
    )


def _onevision(vocabulary: Vocabulary) -> dict[str, Any]:
    ids = vocabulary.special
    tower = known("Gemma3ForConditionalGeneration")["vision_config"]
    return {
        "text_config": text_settings(vocabulary, model_type="qwen2"),
        "vision_config": {**tower, "model_type": "siglip_vision_model"},
        "image_token_index": ids["<image>"],
        "video_token_index": ids["<video>"],
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full",
        "image_grid_pinpoints": [[_SIDE, _SIDE], [_SIDE, 2 * _SIDE], [2 * _SIDE, _SIDE]],
        "tie_word_embeddings": False,
    }


def _onevision_processor(tokenizer: Any, template: str) -> Any:
    pinpoints = [[_SIDE, _SIDE], [_SIDE, 2 * _SIDE], [2 * _SIDE, _SIDE]]
    return transformers.LlavaOnevisionProcessor(
        transformers.LlavaOnevisionImageProcessor(size=_SQUARE, image_grid_pinpoints=pinpoints),
        tokenizer,
        transformers.LlavaOnevisionVideoProcessor(size=_SQUARE),
        num_image_tokens=(_SIDE // _PATCH) ** 2,
        vision_feature_select_strategy="full",
        chat_template=template,
    )


def _internvl(vocabulary: Vocabulary) -> dict[str, Any]:
    return {
        **known("InternVLForConditionalGeneration"),
        "text_config": text_settings(vocabulary, model_type="qwen2"),
        "image_token_id": vocabulary.special["<IMG_CONTEXT>"],
        "image_seq_length": (_SIDE // _PATCH // 2) ** 2,
        "tie_word_embeddings": False,
    }


def _internvl_processor(tokenizer: Any, template: str) -> Any:
    return transformers.InternVLProcessor(
        transformers.GotOcr2ImageProcessor(size=_SQUARE, max_patches=2, crop_to_patches=True),
        tokenizer,
        transformers.InternVLVideoProcessor(size=_SQUARE),
        image_seq_length=(_SIDE // _PATCH // 2) ** 2,
        chat_template=template,
    )


def _llama4(vocabulary: Vocabulary) -> dict[str, Any]:
    ids = vocabulary.special
    return {
        "text_config": text_settings(
            vocabulary,
            model_type="llama4_text",
            intermediate_size=32,
            intermediate_size_mlp=96,
            num_local_experts=2,
            num_experts_per_tok=1,
            attention_chunk_size=CONTEXT,
            layer_types=["chunked_attention", "chunked_attention", "full_attention"],
            no_rope_layers=[1, 1, 0],
        ),
        "vision_config": {
            "hidden_size": 32,
            "intermediate_size": 128,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 2,
            "image_size": _SIDE,
            "patch_size": _PATCH,
            "vision_output_dim": 64,
            "projector_input_dim": 64,
            "projector_output_dim": 64,
        },
        "tie_word_embeddings": False,
        "image_token_index": ids["<|patch|>"],
        "boi_token_index": ids["<|image_start|>"],
        "eoi_token_index": ids["<|image_end|>"],
    }


def _llama4_processor(tokenizer: Any, template: str) -> Any:
    return transformers.Llama4Processor(
        transformers.Llama4ImageProcessor(size=_SQUARE, max_patches=2),
        tokenizer,
        patch_size=_PATCH,
        chat_template=template,
    )


def _mistral3(vocabulary: Vocabulary) -> dict[str, Any]:
    tower = known("Gemma3ForConditionalGeneration")["vision_config"]
    return {
        # As published; the default of the class is a window for all layers.
        "text_config": text_settings(vocabulary, model_type="mistral", sliding_window=None),
        "vision_config": {**tower, "model_type": "pixtral", "head_dim": 16},
        "image_token_index": vocabulary.special["[IMG]"],
        "spatial_merge_size": 2,
        "vision_feature_layer": -1,
        "tie_word_embeddings": False,
    }


def _mistral3_processor(tokenizer: Any, template: str) -> Any:
    return transformers.PixtralProcessor(
        transformers.PixtralImageProcessor(
            size={"longest_edge": _SIDE}, patch_size={"height": _PATCH, "width": _PATCH}
        ),
        tokenizer,
        patch_size=_PATCH,
        spatial_merge_size=2,
        chat_template=template,
    )


def _family(
    name: str, architecture: str, config: str, settings: Any, processor: Any, **more: Any
) -> TinyFamily:
    return TinyFamily(name, architecture, config, architecture, settings, processor, **more)


VISION_MODELS = (
    _family(
        "LLaVA-1.5",
        "LlavaForConditionalGeneration",
        "LlavaConfig",
        _llava,
        _llava_processor,
        placeholders={"image": "<image>"},
        special=("<image>",),
        published={"vision_tower.": "vision_tower.vision_model."},
    ),
    _family(
        "LLaVA-OneVision",
        "LlavaOnevisionForConditionalGeneration",
        "LlavaOnevisionConfig",
        _onevision,
        _onevision_processor,
        placeholders={"image": "<image>", "video": "<video>"},
        special=("<image>", "<video>"),
        published={"vision_tower.": "vision_tower.vision_model."},
    ),
    _family(
        "InternVL",
        "InternVLForConditionalGeneration",
        "InternVLConfig",
        _internvl,
        _internvl_processor,
        placeholders={"image": "<IMG_CONTEXT>", "video": "<video>"},
        special=("<img>", "</img>", "<IMG_CONTEXT>", "<video>"),
        named={
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
    ),
    _family(
        "Llama 4",
        "Llama4ForConditionalGeneration",
        "Llama4Config",
        _llama4,
        _llama4_processor,
        placeholders={"image": "<|image|>"},
        special=(
            *("<|image|>", "<|image_start|>", "<|image_end|>", "<|patch|>"),
            *("<|tile_x_separator|>", "<|tile_y_separator|>"),
        ),
        note="built, not served with pictures on a CPU: vLLM's tower gives its matrix product a "
        "view with strides that oneDNN does not take",
    ),
    _family(
        "Mistral 3",
        "Mistral3ForConditionalGeneration",
        "Mistral3Config",
        _mistral3,
        _mistral3_processor,
        placeholders={"image": "[IMG]"},
        special=("[IMG]", "[IMG_BREAK]", "[IMG_END]"),
    ),
)
