"""The Qwen families that see and hear."""

from __future__ import annotations

from typing import Any

import transformers

from tests.families.family import TinyFamily, known, text_settings
from tests.models.tiny_tokenizer import Vocabulary

# 4 to 64 tokens of 28 by 28 pixels.
_PIXELS = {"shortest_edge": 4 * 28 * 28, "longest_edge": 64 * 28 * 28}
_SEEN = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
_HEARD = ("<|audio_start|>", "<|audio_end|>", "<|audio_pad|>")
_PLACES: Any = {
    "image": "<|vision_start|><|image_pad|><|vision_end|>",
    "video": "<|vision_start|><|video_pad|><|vision_end|>",
}
_OMNI_PLACES: Any = {**_PLACES, "audio": "<|audio_start|><|audio_pad|><|audio_end|>"}
_OMNI_NAMED = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "audio_token": "<|audio_pad|>",
    "vision_bos_token": "<|vision_start|>",
    "vision_eos_token": "<|vision_end|>",
    "audio_bos_token": "<|audio_start|>",
    "audio_eos_token": "<|audio_end|>",
}


def _text(vocabulary: Vocabulary, settings: dict[str, Any], *, interleaved: bool) -> dict[str, Any]:
    # transformers knows it by the class, vLLM by the checkpoint: the parts of a position alternate.
    rope = {**settings["rope_parameters"], "mrope_interleaved": interleaved}
    return {**settings, **text_settings(vocabulary), "rope_parameters": rope}


def _seeing(architecture: str, vocabulary: Vocabulary) -> dict[str, Any]:
    settings, ids = known(architecture), vocabulary.special
    return {
        **settings,
        "text_config": _text(
            vocabulary, settings["text_config"], interleaved=architecture.startswith("Qwen3")
        ),
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "tie_word_embeddings": False,
    }


def _qwen2_5_vl_processor(tokenizer: Any, template: str) -> Any:
    return transformers.Qwen2_5_VLProcessor(
        transformers.Qwen2VLImageProcessor(size=_PIXELS),
        tokenizer,
        transformers.Qwen2VLVideoProcessor(size=_PIXELS),
        chat_template=template,
    )


def _qwen3_vl_processor(tokenizer: Any, template: str) -> Any:
    return transformers.Qwen3VLProcessor(
        transformers.Qwen2VLImageProcessor(size=_PIXELS),
        tokenizer,
        transformers.Qwen3VLVideoProcessor(size=_PIXELS, patch_size=14),
        chat_template=template,
    )


def _thinker(architecture: str, vocabulary: Vocabulary) -> dict[str, Any]:
    settings, ids = known(architecture)["thinker_config"], vocabulary.special
    return {
        **settings,
        "text_config": _text(
            vocabulary, settings["text_config"], interleaved=architecture.startswith("Qwen3")
        ),
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "audio_token_id": ids["<|audio_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "audio_start_token_id": ids["<|audio_start|>"],
        "audio_end_token_id": ids["<|audio_end|>"],
    }


def _qwen2_5_omni_processor(tokenizer: Any, template: str) -> Any:
    return transformers.Qwen2_5OmniProcessor(
        transformers.Qwen2VLImageProcessor(size=_PIXELS),
        transformers.Qwen2VLVideoProcessor(size=_PIXELS),
        transformers.WhisperFeatureExtractor(feature_size=80),
        tokenizer,
        chat_template=template,
    )


def _qwen3_omni_processor(tokenizer: Any, template: str) -> Any:
    return transformers.Qwen3OmniMoeProcessor(
        transformers.Qwen2VLImageProcessor(size=_PIXELS),
        transformers.Qwen2VLVideoProcessor(size=_PIXELS),
        transformers.WhisperFeatureExtractor(feature_size=80),
        tokenizer,
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
        transformers.WhisperFeatureExtractor(feature_size=80), tokenizer, chat_template=template
    )


QWEN = (
    TinyFamily(
        "Qwen2.5-Omni",
        "Qwen2_5OmniForConditionalGeneration",
        "Qwen2_5OmniThinkerConfig",
        "Qwen2_5OmniThinkerForConditionalGeneration",
        lambda vocabulary: _thinker("Qwen2_5OmniModel", vocabulary),
        _qwen2_5_omni_processor,
        _OMNI_PLACES,
        (*_SEEN, *_HEARD),
        named=_OMNI_NAMED,
        published={"": "thinker."},
        whole="Qwen2_5OmniConfig",
    ),
    TinyFamily(
        "Qwen3-Omni",
        "Qwen3OmniMoeForConditionalGeneration",
        "Qwen3OmniMoeThinkerConfig",
        "Qwen3OmniMoeThinkerForConditionalGeneration",
        lambda vocabulary: _thinker("Qwen3OmniMoeForConditionalGeneration", vocabulary),
        _qwen3_omni_processor,
        _OMNI_PLACES,
        (*_SEEN, *_HEARD),
        named=_OMNI_NAMED,
        published={"": "thinker."},
        whole="Qwen3OmniMoeConfig",
    ),
    TinyFamily(
        "Qwen2.5-VL",
        "Qwen2_5_VLForConditionalGeneration",
        "Qwen2_5_VLConfig",
        "Qwen2_5_VLForConditionalGeneration",
        lambda vocabulary: _seeing("Qwen2_5_VLForConditionalGeneration", vocabulary),
        _qwen2_5_vl_processor,
        _PLACES,
        _SEEN,
    ),
    TinyFamily(
        "Qwen3-VL",
        "Qwen3VLForConditionalGeneration",
        "Qwen3VLConfig",
        "Qwen3VLForConditionalGeneration",
        lambda vocabulary: _seeing("Qwen3VLForConditionalGeneration", vocabulary),
        _qwen3_vl_processor,
        _PLACES,
        _SEEN,
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
