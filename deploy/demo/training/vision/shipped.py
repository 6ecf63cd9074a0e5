"""The stored tower as a tower that can learn on."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

import towers
from deploy.demo.training.vision.targets import Targets
from deploy.demo.training.vision.tower import FRAMES, Shape, Tower

NAMES = "names.safetensors"
"""The vectors that cells become, beside the tower: so it is asked without the backbone."""


def save_goal(goal: Targets, folder: Path) -> None:
    """Write the targets beside a stored tower."""
    from safetensors.torch import save_file

    vectors, scale = towers.closed(goal.vectors)
    stored = {"vectors": vectors, "vectors.scale": scale, "scale": torch.tensor(goal.scale)}
    save_file(stored, folder / NAMES, metadata={"format": "pt"})
    (folder / NAMES).chmod(0o644)


def goal(folder: Path | None = None) -> Targets:
    """The targets of the stored tower."""
    from safetensors.torch import load_file

    stored = load_file((folder or towers.HOME / "vision") / NAMES)
    vectors = towers.opened(stored["vectors"], stored["vectors.scale"])
    return Targets(vectors, float(stored["scale"]))


def load(shape: Shape, scale: float, folder: towers.Tower | None = None) -> Tower:
    """The stored tower, the other way round from ``tower.export``.

    Args:
        shape: sizes of the stored tower.
        scale: mean norm of the names' embeddings, as in ``targets.Targets``.
        folder: the stored tower; the demo's own where nothing is given.

    Raises:
        SystemExit: there is no stored tower.
    """
    stored = folder or towers.find("vision")
    if stored is None:
        raise SystemExit("deploy/demo/towers/vision is missing; train without --shipped.")
    weights = {name: part.float() for name, part in stored.weights().items()}
    tower = Tower(shape)
    tower.load_state_dict(dict(_named(tower, weights)))
    with torch.no_grad():
        for parameter in tower.merge[2].parameters():
            parameter.div_(scale)
    return tower


def _named(tower: Tower, weights: dict[str, Tensor]) -> list[tuple[str, Tensor]]:
    kernel = weights["patch_embed.proj.weight"][:, :, 0] * FRAMES
    found = [
        ("patch.weight", kernel.flatten(1)),
        ("first", weights["blocks.0.attn.proj.bias"]),
    ]
    for number, block in enumerate(tower.layers):
        for name, _ in block.named_parameters():
            part = "mlp" if name[:4] in ("gate", "down") else "attn"
            theirs = name.replace("gate", "gate_proj").replace("down", "down_proj")
            found.append(
                (f"blocks.{number}.{name}", weights[f"blocks.{number + 1}.{part}.{theirs}"])
            )
    found += [(f"merge.{n}", weights[f"merger.mlp.{n}"]) for n, _ in tower.merge.named_parameters()]
    return found
