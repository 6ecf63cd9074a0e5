"""Configuration, tokenizer and processors that put a Qwen2.5 model behind Qwen2.5-Omni's class."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import towers
from console import SetupError

SPEECH, SEES = "speech", "vision"
"""Names of trained towers."""
COPIED = ("generation_config.json", "chat_template.jinja", "LICENSE")
ADDED = ("<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>", "<|IMAGE|>", "<|VIDEO|>")
"""Tokens that Qwen2.5 lacks; vLLM writes them into the prompt where a medium stands."""
# A GGUF file names the embedding's spare rows like this; no text is ever split into these names.
FILLER = "[PAD"
NAMED = {
    "image_token": "<|IMAGE|>",
    "video_token": "<|VIDEO|>",
    "audio_token": "<|AUDIO|>",
    "vision_bos_token": "<|vision_start|>",
    "vision_eos_token": "<|vision_end|>",
    "audio_bos_token": "<|audio_bos|>",
    "audio_eos_token": "<|audio_eos|>",
}
"""The names under which transformers' processor looks them up."""
# What towers of random weights look like; a trained one brings its own description.
VISION = {
    "depth": 2,
    "hidden_size": 64,
    "num_heads": 2,
    "intermediate_size": 128,
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
}
# One token covers 28 by 28 pixels. Few, so that a CPU reads an image or a video in a second, and a
# trained tower was trained on that many. Transformers' omni processor overrides the size of videos;
# deploy/demo/server.yaml sets it back.
TOKENS, FRAMES = 16, 8
TOKEN_PIXELS = 28 * 28
PIXELS = {
    "processor_class": "Qwen2_5OmniProcessor",
    "patch_size": VISION["patch_size"],
    "merge_size": VISION["spatial_merge_size"],
    "temporal_patch_size": VISION["temporal_patch_size"],
    # As DINOv2 takes them.
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}
RATE, HOP, CHUNK_SECONDS = 16_000, 160, 30
# What the backbone says of itself as a model of its own.
OWN = (
    "_name_or_path",
    "_model_name_or_path",
    "architectures",
    "model_type",
    "transformers_version",
)
UNUSED_TALKER = {"vocab_size": 152_064}
"""Nobody loads the talker; its other defaults belong to the real one's vocabulary."""


def write(plain: Path, folder: Path) -> dict[str, Any]:
    """Write everything but the weights into ``folder``; return the model's configuration."""
    for name in COPIED:
        if (plain / name).is_file():
            shutil.copyfile(plain / name, folder / name)
    backbone = read_json(plain / "config.json")
    ids = write_tokenizer(plain, folder, rows=backbone["vocab_size"])
    audio, hop = audio_tower()
    config = describe(backbone, ids, audio, vision_tower())
    write_json(folder / "config.json", config)
    _write_processors(folder, audio, hop)
    return config


def audio_tower() -> tuple[dict[str, Any], int]:
    """How the audio tower is built, and how many samples lie between two of its frames."""
    trained = towers.find(SPEECH)
    if trained is None:
        return AUDIO, HOP
    return trained.description["audio_config"], int(trained.description["hop_length"])


def vision_tower() -> dict[str, Any]:
    """How the vision tower is built."""
    trained = towers.find(SEES)
    return VISION if trained is None else dict(trained.description["vision_config"])


def describe(
    backbone: dict[str, Any],
    ids: dict[str, int],
    audio: dict[str, Any],
    vision: dict[str, Any],
) -> dict[str, Any]:
    """The configuration of the whole model.

    Args:
        backbone: the configuration of the backbone as a model of its own.
        ids: ids of the media tokens, by the names that transformers gives them.
        audio: how the audio tower is built.
        vision: how the vision tower is built.
    """
    return {
        "architectures": ["Qwen2_5OmniForConditionalGeneration"],
        "model_type": "qwen2_5_omni",
        "dtype": "bfloat16",
        # Without it, transformers takes any local tokenizer for an old one of Mistral's.
        "transformers_version": backbone["transformers_version"],
        "enable_audio_output": False,
        "tie_word_embeddings": backbone["tie_word_embeddings"],
        "thinker_config": _thinker(backbone, audio, vision) | _token_ids(ids),
        "talker_config": UNUSED_TALKER,
    }


def write_tokenizer(plain: Path, folder: Path, *, rows: int) -> dict[str, int]:
    """Write the backbone's tokenizer with the added tokens; return the ids of all named ones.

    Args:
        plain: folder of the backbone.
        folder: where the files are written.
        rows: rows of the embedding; the added tokens take spare ones behind the last id in use.
    """
    tokenizer = read_json(plain / "tokenizer.json")
    known = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    added = _take_spare_rows(tokenizer, rows)
    tokenizer["added_tokens"] += [{"id": id_, **_described(token)} for token, id_ in added.items()]
    config = read_json(plain / "tokenizer_config.json")
    if (decoder := config.get("added_tokens_decoder")) is not None:
        decoder |= {str(id_): _described(token) for token, id_ in added.items()}
    config["extra_special_tokens"] = NAMED
    config["processor_class"] = PIXELS["processor_class"]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False), "utf-8")
    write_json(folder / "tokenizer_config.json", config)
    ids = known | added
    return {name: ids[token] for name, token in NAMED.items()}


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object."""
    content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return content


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON object for people to read."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _thinker(
    backbone: dict[str, Any], audio: dict[str, Any], vision: dict[str, Any]
) -> dict[str, Any]:
    # Rotary parameters stay the backbone's: without ``mrope_section``, positions are the plain
    # one-dimensional ones that its weights know.
    text = {name: value for name, value in backbone.items() if name not in OWN}
    return {
        "architectures": ["Qwen2_5OmniThinkerForConditionalGeneration"],
        "model_type": "qwen2_5_omni_thinker",
        "text_config": {**text, "model_type": "qwen2_5_omni_text"},
        "vision_config": {**vision, "out_hidden_size": backbone["hidden_size"]},
        "audio_config": {**audio, "output_dim": backbone["hidden_size"]},
        "tie_word_embeddings": backbone["tie_word_embeddings"],
        "position_id_per_seconds": 25,
        "seconds_per_chunk": 2,
    }


def _token_ids(ids: dict[str, int]) -> dict[str, int]:
    return {
        "image_token_index": ids["image_token"],
        "video_token_index": ids["video_token"],
        "audio_token_index": ids["audio_token"],
        "vision_start_token_id": ids["vision_bos_token"],
        "vision_end_token_id": ids["vision_eos_token"],
        "audio_start_token_id": ids["audio_bos_token"],
        "audio_end_token_id": ids["audio_eos_token"],
    }


def _take_spare_rows(tokenizer: dict[str, Any], rows: int) -> dict[str, int]:
    """Ids of the added tokens: rows behind the last one in use, which lose their filler name."""
    vocabulary = tokenizer["model"]["vocab"]
    fillers = {id_: name for name, id_ in vocabulary.items() if name.startswith(FILLER)}
    used = {token["id"] for token in tokenizer["added_tokens"]} | set(vocabulary.values())
    first = 1 + max(used - set(fillers))
    if first + len(ADDED) > rows:
        raise SetupError(
            f"the backbone's tokenizer uses {first} of the embedding's {rows} rows, expected at "
            f"least {len(ADDED)} spare ones for media tokens. Serve that model without media."
        )
    added = {token: first + number for number, token in enumerate(ADDED)}
    for token, id_ in added.items():
        if id_ in fillers:
            del vocabulary[fillers[id_]]
            vocabulary[token] = id_
    return added


def _described(content: str) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"content": content, **flags, "special": True}


def _write_processors(folder: Path, audio: dict[str, Any], hop: int) -> None:
    image = {"image_processor_type": "Qwen2VLImageProcessor", "size": _size(TOKENS)}
    video = {
        "video_processor_type": "Qwen2VLVideoProcessor",
        "size": _size(4),
        "min_frames": 2,
        "max_frames": FRAMES,
        "cap_pixels_per_frame": False,
    }
    write_json(folder / "preprocessor_config.json", PIXELS | sound(audio, hop) | image)
    write_json(folder / "video_preprocessor_config.json", PIXELS | video)


def sound(audio: dict[str, Any], hop: int) -> dict[str, Any]:
    """What the extractor of sound features is told."""
    samples = CHUNK_SECONDS * RATE
    return {
        "feature_extractor_type": "WhisperFeatureExtractor",
        "feature_size": audio["num_mel_bins"],
        "sampling_rate": RATE,
        "hop_length": hop,
        "n_fft": 400,
        "chunk_length": CHUNK_SECONDS,
        "n_samples": samples,
        "nb_max_frames": samples // hop,
        "return_attention_mask": True,
    }


def _size(least_tokens: int) -> dict[str, int]:
    return {"shortest_edge": least_tokens * TOKEN_PIXELS, "longest_edge": TOKENS * TOKEN_PIXELS}
