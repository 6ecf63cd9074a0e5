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
import math
import shutil
import sys
import tempfile
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import Qwen2_5OmniConfig, Qwen2_5OmniThinkerForConditionalGeneration

from tests.models.tiny_config import HIDDEN, TEXT_LAYERS, write_config, write_processors
from tests.models.tiny_tokenizer import Vocabulary, write_tokenizer

__all__ = ["HIDDEN", "TEXT_LAYERS", "build", "ensure"]

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
    write_processors(out)
    config = write_config(out, vocabulary, dtype)
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
        with suppress(OSError):
            built.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    assert target.is_dir(), f"{cache_dir} takes no folder"
    return target


def _content_key(seed: int, dtype: str) -> str:
    digest = hashlib.sha256(f"{seed} {dtype}".encode())
    for package in ("torch", "transformers", "tokenizers"):
        digest.update(f" {package} {version(package)}".encode())
    for source in sorted(Path(__file__).parent.glob("tiny_*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:12]


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
