"""Rows of one model from several places, as if they were one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import torch
from torch import Tensor

from refusal_steering.bundle import ModelIdentity
from refusal_steering.calibration.activation_file import ActivationFileError, MappedActivations
from refusal_steering.calibration.stored_rows.folder import RowFolder

# A page shows groups by name.
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class StoredSources:
    """Files and folders of rows, one behind the other; ``layers`` are those that all of them have.

    No more than one layer is read at a time. No row stands in two of them, whatever their names.
    """

    parts: tuple[MappedActivations | RowFolder, ...]
    layers: tuple[int, ...]

    @classmethod
    def open(cls, paths: Sequence[Path]) -> StoredSources:
        """Activation files and folders of rows; raises :class:`ActivationFileError`."""
        parts = tuple(
            RowFolder.open(path) if path.is_dir() else MappedActivations.open(path)
            for path in paths
        )
        first = parts[0].model
        for path, part in zip(paths, parts, strict=True):
            if part.model != first:
                raise ActivationFileError(
                    f"{path} has rows of {_shown(part.model)}, {paths[0]} of {_shown(first)}; name "
                    "rows of one model"
                )
        for name in {group for part in parts for group in part.groups}:
            if not name.isprintable() or not 0 < len(name) <= _LONGEST_NAME:
                raise ActivationFileError(
                    f"a group of rows is named {name[:_LONGEST_NAME]!r}; expected 1 to "
                    f"{_LONGEST_NAME} characters on one line"
                )
        layers = set(parts[0].layers).intersection(*(part.layers for part in parts))
        if not layers:
            raise ActivationFileError(f"{', '.join(map(str, paths))} have no layer in common")
        _check_apart(parts, paths, max(layers))
        return cls(parts, tuple(sorted(layers)))

    @property
    def model(self) -> ModelIdentity:
        """The model that was read."""
        return self.parts[0].model

    @property
    def harmful(self) -> Tensor:
        """Bool mask [N]."""
        return torch.cat([part.harmful for part in self.parts])

    @property
    def groups(self) -> tuple[str, ...]:
        """The group of each row."""
        return tuple(group for part in self.parts for group in part.groups)

    @property
    def splits(self) -> tuple[str, ...]:
        """The split of each row."""
        return tuple(split for part in self.parts for split in part.splits)

    def layer(self, index: int) -> Tensor:
        """Rows [N, H] in float32; raises :class:`ActivationFileError`."""
        return torch.cat([part.layer(index) for part in self.parts])


def _check_apart(
    parts: Sequence[MappedActivations | RowFolder], paths: Sequence[Path], layer: int
) -> None:
    """Raise :class:`ActivationFileError` where rows of one part stand in another one, too."""
    owners: dict[bytes, Path] = {}
    # One part alone has nobody to share with, and its rows are left on disk.
    for path, part in zip(paths, parts, strict=True) if len(parts) > 1 else ():
        rows = part.layer(layer).bfloat16().view(torch.int16).numpy()
        found = [blake2b(row.tobytes(), digest_size=16).digest() for row in rows]
        if shared := [row for row in found if row in owners]:
            raise ActivationFileError(
                f"{len(shared)} of the {len(found)} rows in {path} stand in {owners[shared[0]]}, "
                "too; a row that counts twice makes intervals too narrow, and is measured against "
                "itself. Name each row once"
            )
        owners |= dict.fromkeys(found, path)


def _shown(model: ModelIdentity) -> str:
    return f"{model.id} ({model.num_layers} layers of width {model.hidden_size})"
