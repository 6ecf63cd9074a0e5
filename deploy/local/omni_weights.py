"""Weights of the demo model with media: the backbone's own under other names, and the towers'."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import towers
from console import SetupError
from omni_files import SEES, SPEECH, write_json

if TYPE_CHECKING:
    import torch

PREFIX = "thinker."
PLAIN, BACKBONE, TOWERS = "model.safetensors", "backbone.safetensors", "towers.safetensors"
EMBEDDING = "model.embed_tokens.weight"
SAMPLED_ROWS = 20_000
CHUNK = 1 << 24
NORMS = ("norm", "ln_q", "ln_post")
BIAS_SCALE = 0.02
# A tower ends in a linear layer, and what enters it is known: normalised values, or those after a
# GELU, whose root mean square is 0.652 for a standard normal variable.
ENDS = {"visual.merger.mlp.2.": 1 / 0.652, "audio_tower.proj.": 1.0}

TRAINED = {SPEECH: "audio_tower.", SEES: "visual."}
"""Names of towers that may be there trained, and what stands before their parameters."""


def write(plain: Path, folder: Path, config: dict[str, Any], seed: int) -> None:
    """Write both shards and their index into ``folder``."""
    from safetensors.torch import save_file

    shards = dict.fromkeys(rename(plain / PLAIN, folder / BACKBONE), BACKBONE)
    shapes = tower_shapes(config["thinker_config"])
    weights = draw_towers(shapes, embedding_scale(plain / PLAIN), seed)
    for name, prefix in TRAINED.items():
        tower = towers.find(name)
        if tower is not None:
            weights |= trained(tower, prefix, shapes)
    save_file(weights, folder / TOWERS, metadata={"format": "pt"})
    (folder / TOWERS).chmod(0o644)
    shards |= dict.fromkeys(weights, TOWERS)
    size = sum((folder / shard).stat().st_size for shard in (BACKBONE, TOWERS))
    index = {"metadata": {"total_size": size}, "weight_map": shards}
    write_json(folder / "model.safetensors.index.json", index)


def rename(source: Path, target: Path) -> list[str]:
    """Copy a safetensors file with a prefix before every name; return the new names.

    Names stand in the file's JSON header only, so the weights go from disk to disk as they are.
    """
    with open(source, "rb") as read, open(target, "wb") as out:
        header = json.loads(read.read(int.from_bytes(read.read(8), "little")))
        metadata = {"__metadata__": header.pop("__metadata__", {"format": "pt"})}
        renamed = {f"{PREFIX}{name}": entry for name, entry in header.items()}
        text = json.dumps(metadata | renamed, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        out.write(len(text).to_bytes(8, "little") + text)
        shutil.copyfileobj(read, out, CHUNK)
    return list(renamed)


def embedding_scale(weights: Path) -> float:
    """Root mean square over the first rows of the text embedding, which are its common tokens."""
    from safetensors import safe_open

    with safe_open(weights, "pt") as file:
        rows = file.get_slice(EMBEDDING)[:SAMPLED_ROWS].float()
    return float(rows.square().mean().sqrt())


def tower_shapes(thinker: dict[str, Any]) -> dict[str, torch.Size]:
    """Names and shapes of the parameters of both towers, without memory for them."""
    import torch
    from transformers import Qwen2_5OmniThinkerConfig
    from transformers.models.qwen2_5_omni import modeling_qwen2_5_omni as omni

    parts = ("vision_config", "audio_config")
    config = Qwen2_5OmniThinkerConfig(**{part: thinker[part] for part in parts})
    with torch.device("meta"):
        towers = {
            "visual": omni.Qwen2_5OmniVisionEncoder(config.vision_config),
            "audio_tower": omni.Qwen2_5OmniAudioEncoder(config.audio_config),
        }
    return {
        f"{tower}.{name}": parameter.shape
        for tower, module in towers.items()
        for name, parameter in module.named_parameters()
    }


def draw_towers(shapes: dict[str, torch.Size], scale: float, seed: int) -> dict[str, torch.Tensor]:
    """Draw every parameter; a medium then becomes vectors of about the text embedding's norm.

    Args:
        shapes: shape by name.
        scale: root mean square of the components that a tower should put out.
        seed: the same one gives the same weights.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    towers = {}
    for name, shape in sorted(shapes.items()):
        gain = next((scale * factor for end, factor in ENDS.items() if name.startswith(end)), 1.0)
        towers[f"{PREFIX}{name}"] = (gain * _draw(name, shape, generator)).bfloat16()
    return towers


def trained(
    tower: towers.Tower, prefix: str, shapes: dict[str, torch.Size]
) -> dict[str, torch.Tensor]:
    """The parameters of a trained tower, checked against what the model has in its place.

    Args:
        tower: the trained tower.
        prefix: what stands before the tower's names in the model.
        shapes: shapes of all towers by name.
    """
    import torch

    weights = {f"{prefix}{name}": weight for name, weight in tower.weights().items()}
    for name, value in tower.constants.items():
        shape = shapes.get(f"{prefix}{name}", ())
        weights[f"{prefix}{name}"] = torch.full(shape, value, dtype=torch.bfloat16)
    found = {name: weight.shape for name, weight in weights.items()}
    expected = {name: shape for name, shape in shapes.items() if name.startswith(prefix)}
    if found != expected:
        names = sorted(dict(found.items() ^ expected.items()))
        raise SetupError(
            f"{tower.folder} does not fit the model: {len(names)} parameters are missing, unknown "
            f"or of another shape, such as {names[0]}; get the folder again, or remove it for a "
            "tower of random weights."
        )
    return {f"{PREFIX}{name}": weight for name, weight in weights.items()}


def _draw(name: str, shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    """Draw one parameter: norms neutral, small biases, the rest scaled by fan-in."""
    import torch

    bias = name.endswith("bias")
    if any(part in name for part in NORMS):
        return torch.zeros(shape) if bias else torch.ones(shape)
    noise = torch.randn(shape, generator=generator)
    return BIAS_SCALE * noise if bias else noise / math.sqrt(math.prod(shape[1:]))
