"""A Qwen2.5-Omni checkpoint of random weights, small enough to make for every test run.

It takes text, images, audio and video through vLLM's own model class: no remote code, no download,
under 3 MB. The weights mean nothing, but three choices make it a fair test object:

* gains are large, so a greedy answer depends on every part of the request, media included;
* only printable ASCII has output weights, so an answer is readable and holds no stray control
  token; ``<|im_end|>`` is an ordinary output that may or may not come up within a few tokens;
* everything is drawn from one seeded generator, so the same versions write the same bytes.

    python -m tests.models.tiny_omni OUT [--seed 0] [--dtype bfloat16]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import shutil
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import Qwen2_5OmniConfig, Qwen2_5OmniThinkerForConditionalGeneration

from tests.models.tiny_tokenizer import Vocabulary, write_tokenizer

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
OUTPUT_GAIN = 4.0
SCALES = (
    (".self_attn.q_proj", 2.5),
    (".self_attn.k_proj", 2.5),
    (".self_attn.", 2.0),
    ("visual.merger.mlp.2", 2.0),
    ("audio_tower.proj", 2.0),
)
"""Part of a parameter's name and its gain over 1/sqrt(fan-in); the first that fits counts."""


def build(out: Path, *, seed: int = 0, dtype: str = "bfloat16") -> Path:
    """Write the checkpoint into ``out`` and return ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    vocabulary = write_tokenizer(out)
    _write_processors(out)
    config = _write_config(out, vocabulary, dtype)
    _write_weights(out, config, vocabulary, seed, getattr(torch, dtype))
    return out


def ensure(cache_dir: Path, *, seed: int = 0, dtype: str = "bfloat16") -> Path:
    """Return the checkpoint's folder below ``cache_dir``, making it first if it is not there.

    The folder's name holds a digest of everything that the content depends on.
    """
    target = cache_dir / f"tiny-omni-{_content_key(seed, dtype)}"
    if target.is_dir():
        return target
    cache_dir.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".partial-", dir=cache_dir))
    try:
        built = build(work / target.name, seed=seed, dtype=dtype)
        # Another test process may have been faster; its folder has the same content.
        if not target.is_dir():
            built.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def _content_key(seed: int, dtype: str) -> str:
    digest = hashlib.sha256(f"{seed} {dtype}".encode())
    for package in ("torch", "transformers", "tokenizers"):
        digest.update(f" {package} {version(package)}".encode())
    for source in sorted(Path(__file__).parent.glob("tiny_*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:12]


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _write_processors(out: Path) -> None:
    """Write the files from which transformers makes the image, video and audio processors."""
    pixels = {
        "processor_class": "Qwen2_5OmniProcessor",
        "patch_size": VISION["patch_size"],
        "merge_size": VISION["spatial_merge_size"],
        "temporal_patch_size": VISION["temporal_patch_size"],
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.25, 0.25, 0.25],
    }
    sound = {
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
    image = {"image_processor_type": "Qwen2VLImageProcessor", "size": _size(MAX_IMAGE_TOKENS)}
    video = {
        "video_processor_type": "Qwen2VLVideoProcessor",
        "size": _size(MAX_FRAME_TOKENS),
        "min_frames": 2,
        "max_frames": 32,
        "cap_pixels_per_frame": False,
    }
    _write_json(out / "preprocessor_config.json", pixels | sound | image)
    _write_json(out / "video_preprocessor_config.json", pixels | video)


def _size(most_tokens: int) -> dict[str, int]:
    return {"shortest_edge": 4 * TOKEN_PIXELS, "longest_edge": most_tokens * TOKEN_PIXELS}


def _write_config(out: Path, vocabulary: Vocabulary, dtype: str) -> Qwen2_5OmniConfig:
    ids = vocabulary.special
    end = {"eos_token_id": ids["<|im_end|>"], "pad_token_id": ids["<|endoftext|>"]}
    thinker = {
        "text_config": TEXT | end | {"vocab_size": vocabulary.rows, "bos_token_id": None},
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
    # Nobody loads the talker; with the real one's vocabulary its defaults raise no warnings.
    talker = {"vocab_size": 152_064}
    config = Qwen2_5OmniConfig(
        thinker_config=thinker, talker_config=talker, enable_audio_output=False
    )
    config.architectures = ["Qwen2_5OmniForConditionalGeneration"]
    config.dtype = config.thinker_config.dtype = dtype
    content = config.to_dict() | end | {"talker_config": talker}
    for unused in ("token2wav_config", "transformers_version"):
        content.pop(unused, None)
    _write_json(out / "config.json", content)
    _write_json(out / "generation_config.json", end)
    return config


@torch.no_grad()
def _write_weights(
    out: Path, config: Qwen2_5OmniConfig, vocabulary: Vocabulary, seed: int, dtype: torch.dtype
) -> None:
    model = Qwen2_5OmniThinkerForConditionalGeneration(config.thinker_config)
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, parameter in sorted(model.named_parameters()):
        weight = _draw(name, parameter.shape, generator)
        if name == "lm_head.weight":
            weight *= OUTPUT_GAIN * vocabulary.speakable()[:, None]
        weights[f"thinker.{name}"] = weight.to(dtype).contiguous()
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})


def _draw(name: str, shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    """Draw one parameter: norms neutral, embeddings of unit variance, the rest by fan-in."""
    if any(part in name for part in ("norm", "ln_q", "ln_post")):
        return torch.zeros(shape) if name.endswith("bias") else torch.ones(shape)
    noise = torch.randn(shape, generator=generator)
    if name.endswith("bias"):
        return 0.02 * noise
    if "embed_tokens" in name or "audio_bos_eos_token" in name:
        return noise
    in_tower = name.startswith(("visual.blocks", "audio_tower.layers"))
    gain = 1.0 if in_tower else next((g for part, g in SCALES if part in name), 1.0)
    return gain * noise / math.sqrt(math.prod(shape[1:]))


def main() -> None:
    """Write a checkpoint from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    arguments = parser.parse_args()
    out = build(arguments.out, seed=arguments.seed, dtype=arguments.dtype)
    size = sum(file.stat().st_size for file in out.iterdir())
    sys.stdout.write(f"{out}: {size / 1e6:.2f} MB\n")


if __name__ == "__main__":
    main()
