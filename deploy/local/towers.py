"""Trained towers of the demo model, kept beside its settings in ``deploy/demo/towers``.

A tower is a folder with ``tower.json``, which says how it is built, and ``tower.safetensors``. A
matrix is kept as bytes with one scale a row; vectors are kept as they are. A parameter that holds
one value everywhere is not kept: the description says it, under ``constants``.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from console import SetupError

if TYPE_CHECKING:
    import torch

HOME = Path(__file__).parents[1] / "demo" / "towers"
DESCRIPTION, WEIGHTS = "tower.json", "tower.safetensors"
SCALE = ".scale"


@dataclass(frozen=True, slots=True)
class Tower:
    """A trained tower: its folder, and what its description says."""

    folder: Path
    description: dict[str, Any]

    @property
    def digest(self) -> str:
        """Sha256 of the tower's files."""
        files = (self.folder / name for name in (DESCRIPTION, WEIGHTS))
        return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()

    @property
    def constants(self) -> dict[str, float]:
        """Values of the parameters that are not kept, by their names in the tower."""
        return dict(self.description.get("constants", {}))

    def weights(self) -> dict[str, torch.Tensor]:
        """The parameters in bfloat16, by their names in the tower."""
        from safetensors.torch import load_file

        stored = load_file(self.folder / WEIGHTS)
        return {
            name: opened(part, stored.get(name + SCALE)).bfloat16()
            for name, part in stored.items()
            if not name.endswith(SCALE)
        }


def find(name: str, home: Path | None = None) -> Tower | None:
    """The trained tower of a name, or None where there is none."""
    folder = (home or HOME) / name
    if not folder.is_dir():
        return None
    missing = [file for file in (DESCRIPTION, WEIGHTS) if not (folder / file).is_file()]
    if missing:
        raise SetupError(
            f"{folder} is a trained tower without {' and '.join(missing)}; get the file again, or "
            "remove the folder for a tower of random weights."
        )
    return Tower(folder, json.loads((folder / DESCRIPTION).read_text("utf-8")))


def save(folder: Path, description: dict[str, Any], weights: dict[str, torch.Tensor]) -> None:
    """Write a tower: matrices as bytes, everything else in bfloat16."""
    from safetensors.torch import save_file

    stored = {}
    for name, part in weights.items():
        if part.dim() < 2:
            stored[name] = part.bfloat16().contiguous()
        else:
            stored[name], stored[name + SCALE] = closed(part)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(stored, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / WEIGHTS).chmod(0o644)
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", "utf-8")


def closed(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A matrix as bytes [rows, ...], and one scale [rows] a row."""
    import torch

    rows = matrix.float().flatten(1)
    scale = (rows.abs().amax(1) / 127).clamp(min=torch.finfo(torch.float32).tiny)
    numbers = (rows / scale[:, None]).round().to(torch.int8)
    return numbers.view(matrix.shape).contiguous(), scale


def opened(part: torch.Tensor, scale: torch.Tensor | None) -> torch.Tensor:
    """A parameter in float32, from what :func:`closed` made of it."""
    if scale is None:
        return part.float()
    return part.float() * scale.view(-1, *[1] * (part.dim() - 1))
