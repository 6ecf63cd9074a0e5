"""Folders of residual rows: batches as a build reads them, and an index that says what they are.

A batch is one safetensors file with a tensor ``rows.{layer}`` [n, H] for every layer of the model.
The index is JSON with one entry per row; without it nobody knows what a row is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError, safe_open
from torch import Tensor

from refusal_steering.atomic_file import write_atomically
from refusal_steering.bundle import ModelIdentity
from refusal_steering.calibration.activation_file import ActivationFileError

INDEX_FILE = "rows.json"


class RowIndex(BaseModel):
    """What the rows of a folder are, in their order; ``batch`` of them stand in a file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["refusal-steering-rows-1"] = "refusal-steering-rows-1"
    model: ModelIdentity
    requests_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    batch: int = Field(gt=0)
    labels: tuple[Literal["harmful", "harmless"], ...] = Field(min_length=1)
    groups: tuple[str, ...]
    splits: tuple[Literal["train", "tune", "held"], ...]

    @model_validator(mode="after")
    def _has_one_of_each_per_row(self) -> Self:
        if not len(self.labels) == len(self.groups) == len(self.splits):
            raise ValueError(
                f"{len(self.labels)} labels, {len(self.groups)} groups and {len(self.splits)} "
                "splits; expected one of each per row"
            )
        return self

    @property
    def batches(self) -> tuple[str, ...]:
        """Names of the files, in the order of their rows."""
        count = -(-len(self.labels) // self.batch)
        return tuple(f"{number:05d}.safetensors" for number in range(count))

    def save(self, folder: Path) -> None:
        """Write the index into ``folder``; raises ``OSError``."""
        write_atomically(folder / INDEX_FILE, self.model_dump_json().encode())


@dataclass(frozen=True, slots=True)
class RowFolder:
    """A folder whose batches are all there, to be read one layer at a time."""

    folder: Path
    index: RowIndex

    @classmethod
    def open(cls, folder: Path) -> RowFolder:
        """Read the index; raises :class:`ActivationFileError` where it or a batch is missing."""
        path = folder / INDEX_FILE
        try:
            index = RowIndex.model_validate_json(path.read_bytes())
        except OSError as error:
            raise ActivationFileError(
                f"{folder} is no folder of rows: {path} cannot be read ({error.strerror}); "
                "expected a folder work/rows-* of `refusal-steering build --served-by`"
            ) from error
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "document"
            raise ActivationFileError(f"{path} is invalid at {where}: {first['msg']}") from error
        missing = [name for name in index.batches if not (folder / name).is_file()]
        if missing:
            raise ActivationFileError(
                f"{folder} lacks {len(missing)} of {len(index.batches)} batches, {missing[0]} "
                "first; run the build again, it goes on where it was"
            )
        return cls(folder, index)

    @property
    def model(self) -> ModelIdentity:
        """The model that was read."""
        return self.index.model

    @property
    def layers(self) -> tuple[int, ...]:
        """All layers of the model."""
        return tuple(range(self.model.num_layers))

    @property
    def harmful(self) -> Tensor:
        """Bool mask [N]."""
        return torch.tensor([label == "harmful" for label in self.index.labels])

    @property
    def groups(self) -> tuple[str, ...]:
        """The group of each row."""
        return self.index.groups

    @property
    def splits(self) -> tuple[str, ...]:
        """The split of each row."""
        return self.index.splits

    def layer(self, index: int) -> Tensor:
        """Rows [N, H] in float32; raises :class:`ActivationFileError`."""
        parts = [read_rows(self.folder / name, index) for name in self.index.batches]
        wanted = (len(self.index.labels), self.model.hidden_size)
        shapes = {part.shape[1:] for part in parts}
        found = (sum(len(part) for part in parts), *min(shapes, key=lambda s: s == wanted[1:]))
        if len(shapes) > 1 or found != wanted:
            raise ActivationFileError(
                f"the rows of layer {index} in {self.folder} have shape {found}, its "
                f"index says {wanted}; remove the folder and build again"
            )
        return torch.cat(parts).float()


def read_rows(path: Path, layer: int) -> Tensor:
    """Rows [n, H] behind ``layer`` of one batch; raises :class:`ActivationFileError`."""
    try:
        with safe_open(path, framework="pt") as file:
            found: Tensor = file.get_tensor(f"rows.{layer}")
            return found
    except (OSError, SafetensorError) as error:
        raise ActivationFileError(
            f"cannot read {path}: {error}; remove it and build again"
        ) from error
