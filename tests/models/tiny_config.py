"""Sizes of the tiny omni model, and the files that describe it to transformers and vLLM."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import Qwen2_5OmniConfig

from tests.models.tiny_tokenizer import Vocabulary

TEXT_LAYERS = 4
HIDDEN = 128
TEXT = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": TEXT_LAYERS,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 256,
    "max_position_embeddings": 32_768,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 1_000_000.0,
        "mrope_section": [8, 12, 12],
    },
}
VISION = {
    "depth": 2,
    "hidden_size": 64,
    "num_heads": 2,
    "intermediate_size": 128,
    "out_hidden_size": HIDDEN,
    "in_channels": 3,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "window_size": 112,
    "fullatt_block_indexes": [1],
    "tokens_per_second": 25,
}
AUDIO = {
    "encoder_layers": 2,
    "d_model": 64,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 128,
    "num_mel_bins": 80,
    "max_source_positions": 1500,
    "n_window": 100,
    "output_dim": HIDDEN,
}
SAMPLING_RATE = 16_000
AUDIO_SECONDS = 30
HOP = 160
TOKEN_PIXELS = 28 * 28
"""One image token covers two by two patches of 14 by 14 pixels."""
MAX_IMAGE_TOKENS = 256
MAX_FRAME_TOKENS = 64
PIXELS = {
    "processor_class": "Qwen2_5OmniProcessor",
    "patch_size": VISION["patch_size"],
    "merge_size": VISION["spatial_merge_size"],
    "temporal_patch_size": VISION["temporal_patch_size"],
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.25, 0.25, 0.25],
}
SOUND = {
    "feature_extractor_type": "WhisperFeatureExtractor",
    "feature_size": AUDIO["num_mel_bins"],
    "sampling_rate": SAMPLING_RATE,
    "hop_length": HOP,
    "n_fft": 400,
    "chunk_length": AUDIO_SECONDS,
    "n_samples": AUDIO_SECONDS * SAMPLING_RATE,
    "nb_max_frames": AUDIO_SECONDS * SAMPLING_RATE // HOP,
    "return_attention_mask": True,
}


def write_processors(out: Path) -> None:
    """Write the files from which transformers makes the image, video and audio processors."""
    image = {"image_processor_type": "Qwen2VLImageProcessor", "size": _size(MAX_IMAGE_TOKENS)}
    video = {
        "video_processor_type": "Qwen2VLVideoProcessor",
        "size": _size(MAX_FRAME_TOKENS),
        "min_frames": 2,
        "max_frames": 32,
        "cap_pixels_per_frame": False,
    }
    _write_json(out / "preprocessor_config.json", PIXELS | SOUND | image)
    _write_json(out / "video_preprocessor_config.json", PIXELS | video)


def write_config(out: Path, vocabulary: Vocabulary, dtype: str) -> Qwen2_5OmniConfig:
    """Write the model's configuration and generation defaults, and return the configuration."""
    # Nobody loads the talker; with the real one's vocabulary its defaults raise no warnings.
    talker = {"vocab_size": 152_064}
    config = Qwen2_5OmniConfig(
        thinker_config=_thinker(vocabulary), talker_config=talker, enable_audio_output=False
    )
    config.architectures = ["Qwen2_5OmniForConditionalGeneration"]
    config.dtype = config.thinker_config.dtype = dtype
    end = _end_tokens(vocabulary)
    content = config.to_dict() | end | {"talker_config": talker}
    for unused in ("token2wav_config", "transformers_version"):
        content.pop(unused, None)
    _write_json(out / "config.json", content)
    _write_json(out / "generation_config.json", end)
    return config


def _thinker(vocabulary: Vocabulary) -> dict[str, Any]:
    ids = vocabulary.special
    rows = {"vocab_size": vocabulary.rows, "bos_token_id": None}
    return {
        "text_config": TEXT | _end_tokens(vocabulary) | rows,
        "vision_config": VISION,
        "audio_config": AUDIO,
        "image_token_index": ids["<|IMAGE|>"],
        "audio_token_index": ids["<|AUDIO|>"],
        "video_token_index": ids["<|VIDEO|>"],
        "vision_start_token_id": ids["<|vision_bos|>"],
        "vision_end_token_id": ids["<|vision_eos|>"],
        "audio_start_token_id": ids["<|audio_bos|>"],
        "audio_end_token_id": ids["<|audio_eos|>"],
        "position_id_per_seconds": 25,
        "seconds_per_chunk": 2,
        "tie_word_embeddings": False,
    }


def _end_tokens(vocabulary: Vocabulary) -> dict[str, int]:
    ids = vocabulary.special
    return {"eos_token_id": ids["<|im_end|>"], "pad_token_id": ids["<|endoftext|>"]}


def _size(most_tokens: int) -> dict[str, int]:
    return {"shortest_edge": 4 * TOKEN_PIXELS, "longest_edge": most_tokens * TOKEN_PIXELS}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
