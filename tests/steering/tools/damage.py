"""Copies of a model's folder with something wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file, save_file

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"

Damage = Callable[[Path], None]


def damaged(good: Path, out: Path, damage: Damage) -> Path:
    """A copy of the folder ``good`` that ``damage`` has been done to."""
    shutil.copytree(good, out)
    damage(out)
    return out


def without(*names: str) -> Damage:
    """Remove files."""

    def remove(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return remove


def cut(name: str) -> Damage:
    """Keep the first half of a file."""

    def halve(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])

    return halve


def written(name: str, text: str) -> Damage:
    """Replace a file's content."""

    def write(folder: Path) -> None:
        (folder / name).write_text(text)

    return write


def configured(**changes: Any) -> Damage:
    """Change the configuration; ``None`` removes a key."""

    def change(folder: Path) -> None:
        config = {**json.loads((folder / "config.json").read_bytes()), **changes}
        kept = {key: value for key, value in config.items() if value is not None}
        (folder / "config.json").write_text(json.dumps(kept))

    return change


def emptied(folder: Path) -> None:
    """Remove every file."""
    for file in folder.iterdir():
        file.unlink()


def without_layer(folder: Path) -> None:
    """Leave the weights of one layer out of a file that is otherwise whole."""
    tensors = load_file(folder / WEIGHTS)
    kept = {name: tensor for name, tensor in tensors.items() if ".layers.2." not in name}
    save_file(kept, folder / WEIGHTS, {"format": "pt"})


def without_shard(folder: Path) -> None:
    """Name a second shard in an index, which is not there."""
    first, second = (f"model-0000{n}-of-00002.safetensors" for n in (1, 2))
    with safe_open(folder / WEIGHTS, framework="pt") as file:
        names = list(file.keys())
    (folder / WEIGHTS).rename(folder / first)
    places = {name: (first, second)[n % 2] for n, name in enumerate(names)}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))


def without_index(folder: Path) -> None:
    """Leave a first shard without its index."""
    (folder / WEIGHTS).rename(folder / "model-00001-of-00002.safetensors")


def pointer(folder: Path) -> None:
    """What Git leaves where its Large File Storage is not installed."""
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 988097824\n"
    (folder / WEIGHTS).write_text(text)


def adapter(folder: Path) -> None:
    """What the training of an adapter leaves."""
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text("{}")
