"""The families, with what makes their tiny checkpoints."""

from __future__ import annotations

from typing import Any

import transformers

from tests.families.family import TinyFamily, known, text_settings
from tests.models.tiny_tokenizer import Vocabulary

_IMAGE_SIDE, _PATCH = 56, 14
_PIXELS = {"shortest_edge": 4 * 28 * 28, "longest_edge": 64 * 28 * 28}


def _llava(vocabulary: Vocabulary) -> dict[str, Any]:
    settings = known("LlavaForConditionalGeneration")
    return {
        **settings,
        "text_config": text_settings(vocabulary, model_type="llama"),
        "image_token_index": vocabulary.special["<image>"],
        "image_seq_length": (_IMAGE_SIDE // _PATCH) ** 2,
        "tie_word_embeddings": False,
    }


def _llava_processor(tokenizer: Any, template: str) -> Any:
    side = {"height": _IMAGE_SIDE, "width": _IMAGE_SIDE}
    return transformers.LlavaProcessor(
        transformers.CLIPImageProcessor(size={"shortest_edge": _IMAGE_SIDE}, crop_size=side),
        tokenizer,
        patch_size=_PATCH,
        vision_feature_select_strategy="default",
        chat_template=template,
        num_additional_image_tokens=1,
    )


def _qwen_media(vocabulary: Vocabulary) -> dict[str, Any]:
    ids = vocabulary.special
    return {
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "tie_word_embeddings": False,
    }


def _qwen2_5_vl(vocabulary: Vocabulary) -> dict[str, Any]:
    settings = known("Qwen2_5_VLForConditionalGeneration")
    rope = settings["text_config"]["rope_parameters"]
    return {
        **settings,
        **_qwen_media(vocabulary),
        "text_config": text_settings(vocabulary, rope_parameters=rope),
    }


def _qwen2_5_vl_processor(tokenizer: Any, template: str) -> Any:
    return transformers.Qwen2_5_VLProcessor(
        transformers.Qwen2VLImageProcessor(size=_PIXELS),
        tokenizer,
        transformers.Qwen2VLVideoProcessor(size=_PIXELS),
        chat_template=template,
    )


def _qwen2_audio(vocabulary: Vocabulary) -> dict[str, Any]:
    return {
        "text_config": text_settings(vocabulary, model_type="qwen2"),
        "audio_config": {
            "d_model": 32,
            "encoder_layers": 3,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 128,
            "num_mel_bins": 80,
        },
        "audio_token_index": vocabulary.special["<|AUDIO|>"],
        "tie_word_embeddings": False,
    }


def _qwen2_audio_processor(tokenizer: Any, template: str) -> Any:
    return transformers.Qwen2AudioProcessor(
        transformers.WhisperFeatureExtractor(feature_size=80),
        tokenizer,
        chat_template=template,
    )


_QWEN_SPECIAL = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
_QWEN_PLACES: Any = {
    "image": "<|vision_start|><|image_pad|><|vision_end|>",
    "video": "<|vision_start|><|video_pad|><|vision_end|>",
}

FAMILIES = (
    TinyFamily(
        "LLaVA-1.5",
        "LlavaForConditionalGeneration",
        "LlavaConfig",
        "LlavaForConditionalGeneration",
        _llava,
        _llava_processor,
        {"image": "<image>"},
        ("<image>",),
        published={"vision_tower.": "vision_tower.vision_model."},
    ),
    TinyFamily(
        "Qwen2.5-VL",
        "Qwen2_5_VLForConditionalGeneration",
        "Qwen2_5_VLConfig",
        "Qwen2_5_VLForConditionalGeneration",
        _qwen2_5_vl,
        _qwen2_5_vl_processor,
        _QWEN_PLACES,
        _QWEN_SPECIAL,
    ),
    TinyFamily(
        "Qwen2-Audio",
        "Qwen2AudioForConditionalGeneration",
        "Qwen2AudioConfig",
        "Qwen2AudioForConditionalGeneration",
        _qwen2_audio,
        _qwen2_audio_processor,
        {"audio": "<|audio_bos|><|AUDIO|><|audio_eos|>"},
        ("<|audio_bos|>", "<|AUDIO|>", "<|audio_eos|>"),
        published={"language_model.model.model.": "language_model.model."},
    ),
)
